"""ganport's benchmarks: how fast generators draw, export and train, measured so that the numbers can be quoted.

The modules at this level, and the packages with a `__main__`, are commands: `gan-bench` is `cli`, the others run as
`python -m gan_bench.NAME` and know nothing of each other. What they are made of:

    measuring/   gan-bench's measurement: what is asked for, a process for each row, windows in turn
    records/     its rows, their record, and the record read, told, drawn, compared
    limits/      the work of an image, and what the machine could do
    peers/       the other ways to draw a checkpoint
    processes/   whole commands timed beside each other, from their start to their end
    loops/       training loops timed beside each other
    shared/      what any record needs: the environment, the arithmetic of windows, JSON
"""
