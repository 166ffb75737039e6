"""`python -m lab.recipes`."""

from gan_serve.terminal import console
from lab.recipes.command import NAME, app

if __name__ == "__main__":
    console.run(app, NAME)
