"""The cost of the measuring middleware: vLLM with it and without it, in turn, and the middleware alone.

`python -m bench.model_server` (`make bench-model-server`): about ten minutes, loopback only, needs the CPU engine and
the tiny model (built on first use). Writes results.md beside this file. Two results, each from what can resolve it:

- End to end, in short rounds that alternate between two running servers: throughput ratio and difference of the time to
  first token, with their uncertainty, for requests of 2, 64 and 512 KB, and the processor time of the API server, which
  depends less on other programs: it bounds the loss of throughput of a server that does nothing else.
- Alone, around an application that does nothing: microseconds per request, for the same messages with and without it.

Bodies get their size from the field `user`, which vLLM reads and ignores. Not in `make bench`, which takes seconds.
"""
