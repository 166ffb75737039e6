"""`python -m gan_bench` is `gan-bench`."""

from gan_bench.cli import main

main()
