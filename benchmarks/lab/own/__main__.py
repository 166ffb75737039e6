"""`python -m lab.own`."""

from lab.own.command import main

if __name__ == "__main__":
    main()
