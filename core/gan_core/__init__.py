"""What a generator is, for every package: spec, contract, latents, images, files. Needs NumPy and Pillow only."""

__version__ = "0.1.0"
