"""`python -m gan_bench.recipes`."""

from gan_bench.recipes.command import main

if __name__ == "__main__":
    main()
