"""`python -m lab.odds`."""

from gan_serve.terminal import console
from lab.odds.command import NAME, app

if __name__ == "__main__":
    console.run(app, NAME)
