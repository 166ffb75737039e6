"""ganport's benchmark: how fast a generator file draws here, measured so that the number can be quoted."""
