"""The software of a vLLM pod, and the small model that tests and the demo serve with it.

serin_model_server/  the middleware that measures requests inside vLLM
cpu/                 vLLM on a CPU: lock files and an installer
tiny/                a triage model that trains in minutes, its tickets, and its evaluation
light/               a fast HTTP server with vLLM's API, for tests that need a high request rate
cache                the directory of built files, outside the repository
serve                runs a vLLM on loopback, for slow tests and the benchmark
"""
