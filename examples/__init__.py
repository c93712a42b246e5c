"""Numbered folders hold examples to read and apply; `load` and `demo` are programs that drive them.

load    an open-loop load generator that speaks as a user's application does
demo    `make demo`: a whole story on a real cluster, with a table and an exit status at its end
"""
