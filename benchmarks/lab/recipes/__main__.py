"""`python -m lab.recipes`."""

from lab.recipes.command import main

if __name__ == "__main__":
    main()
