"""The odds of a reading: trains generators as people do, fits the weights of the evidence to them, checks the odds."""
