"""Training loops timed beside each other: each in a process of its own, in turn."""
