"""The command line of the sandbox, and what the demo checks before it begins."""
