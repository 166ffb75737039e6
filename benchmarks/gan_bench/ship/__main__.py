"""`python -m gan_bench.ship`."""

from gan_bench.ship.command import main

if __name__ == "__main__":
    main()
