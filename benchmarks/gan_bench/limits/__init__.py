"""What the machine could do: the work of an image, and the rates of a matrix product and a copy."""
