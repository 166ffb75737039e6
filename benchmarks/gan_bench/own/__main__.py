"""`python -m gan_bench.own`."""

from gan_bench.own.command import main

if __name__ == "__main__":
    main()
