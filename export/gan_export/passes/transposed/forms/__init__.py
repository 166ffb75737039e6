"""One module a form. Each has `fits(layer)` and `apply(builder, x, layer) -> Feature`, bias included."""
