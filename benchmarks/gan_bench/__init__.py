"""gan-bench: how fast generators draw, measured so that the numbers can be quoted. `cli` is the command; its parts:

measuring/   what is asked for, a process for each row, windows in turn
records/     its rows, their record, and the record read, told, drawn, compared
limits/      the work of an image, and what the machine could do
peers/       the other ways to draw a checkpoint
shared/      what any record needs: the environment, the arithmetic of windows, JSON
"""
