"""gan-bench's measurement: what is asked for, a process for each row, windows in turn, results."""
