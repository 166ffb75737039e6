"""The project's own models, and the records of them."""
