"""The commands that people run: `serin prompt`.

Imports api and cluster, never kopf: a command works on files without a cluster, and on a cluster with the rights of the
person who runs it. `serin.__main__` only dispatches.
"""
