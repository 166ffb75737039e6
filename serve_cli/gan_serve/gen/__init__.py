"""The command gan-gen: what was asked for, drawn and written."""
