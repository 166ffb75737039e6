"""`python -m gan_trainer` is `gan-train`."""

from gan_trainer.cli import main

main()
