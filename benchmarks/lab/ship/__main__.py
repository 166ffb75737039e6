"""`python -m lab.ship`."""

from gan_serve.terminal import console
from lab.ship.command import NAME, app

if __name__ == "__main__":
    console.run(app, NAME)
