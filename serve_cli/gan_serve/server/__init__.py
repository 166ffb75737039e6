"""gan-serve: a generator's images over HTTP, for people, programs and clients of the Open Inference Protocol."""
