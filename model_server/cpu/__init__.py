"""vLLM on a CPU: hash-locked requirements and the installer (`python -m model_server.cpu.install`)."""
