"""ganport's trainer: images become a generator checkpoint (a `GeneratorSpec` and its weights)."""
