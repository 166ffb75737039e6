"""`python -m gan_bench.forensics_accuracy`."""

from gan_bench.forensics_accuracy.command import main

if __name__ == "__main__":
    main()
