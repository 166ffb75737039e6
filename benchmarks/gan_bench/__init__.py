"""gan-bench: how fast generators draw, measured so that the numbers can be quoted.

`cli` and `options` are the command, `measure` measures: a process for each row (`process`, `worker`, `tasks`), which
answers typed messages (`questions`, `messages`), and `windows` of all rows in turn. `record` is what comes of it,
`report` and `plot` show it.
"""
