"""What the record of any benchmark needs: the environment, the arithmetic of windows, memory, JSON."""
