"""`python -m lab.forensics_accuracy`."""

from gan_serve.terminal import console
from lab.forensics_accuracy.command import NAME, app

if __name__ == "__main__":
    console.run(app, NAME)
