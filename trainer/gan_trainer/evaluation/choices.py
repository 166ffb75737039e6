"""What `--features` takes. No torch here, so that `gan-train eval --help` needs none."""

FEATURES = ("auto", "inception", "classifier", "swd")
DEFAULT_N = 10_000
MIN_N = 32
