"""`python -m gan_serve` is `gan-gen`."""

from gan_serve.gen.cli import main

main()
