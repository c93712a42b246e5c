"""`serin prompt`: the registry of prompts, on files and on a cluster.

Not pure are only `files`, `cluster`, `model`, `source` and the modules whose names end with `command`.
"""
