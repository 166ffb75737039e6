"""A checkpoint becomes a model that ships."""
