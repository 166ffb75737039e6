"""Whole commands timed beside each other, from their start to their end, and the scripts gan-gen is compared with."""
