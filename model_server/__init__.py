"""What runs inside a vLLM pod, and the small real model that tests and the demo put into it.

cpu/    the recipe for vLLM on a CPU: lock files and an installer
tiny/   a triage model that trains in minutes, its tickets, and its measurement
light/  a fast HTTP server that speaks like vLLM, for tests that need a high rate
cache   where built things are kept, outside the repository
"""
