"""`python -m lab.ship`."""

from lab.ship.command import main

if __name__ == "__main__":
    main()
