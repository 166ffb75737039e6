"""A generator that comes as code, "file.py:Class", with its weights (docs/live-modules.md).

source     all of it: from the code's name and a checkpoint to what the exporters take
loading    runs the user's code                              building  builds the module, finds its arguments
weights    loads a checkpoint into it, strictly
probing    finds how it is called, by trying                 signature what its signature and its layers say of that
adapter    one signature for all of them                     values    what its latents and its output's values mean
tracing    what it draws held still, and what a tracer cannot follow written otherwise
"""
