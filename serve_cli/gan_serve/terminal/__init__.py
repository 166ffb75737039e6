"""What commands say and how they end, at a terminal or in a pipe. Only command modules import it."""
