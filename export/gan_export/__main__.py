"""`python -m gan_export` is `gan-export`."""

from gan_export.cli import main

main()
