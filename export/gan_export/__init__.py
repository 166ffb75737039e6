"""ganport's exporter: a generator checkpoint becomes one proved, self-describing file."""
