"""gan-bench's measurement: what is asked for, a process for each row, windows in turn, results."""

TRUST_SCRIPT = "GANPORT_BENCH_TRUST_SCRIPT"
"""The variable by which `gan-bench --trust-script` reaches the rows' processes."""
