"""`python -m lab.forensics_accuracy`."""

from lab.forensics_accuracy.command import main

if __name__ == "__main__":
    main()
