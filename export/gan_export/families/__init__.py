"""Generators of widely used code, recognised by their keys and shapes."""
