"""Examples to read and apply (the numbered folders), and two programs that run them.

load    an open-loop load generator with the OpenAI client
demo    `make demo`: runs the first example on a real cluster, checks it, and prints a table
"""
