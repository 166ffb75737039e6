"""`python -m gan_serve.server` is `gan-serve`."""

from gan_serve.server.cli import main

main()
