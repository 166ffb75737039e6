"""Generators in torch: a spec's module, its checkpoint, and the networks that gan-train knows by name."""
