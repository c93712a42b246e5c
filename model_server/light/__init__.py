"""A fast stand-in for vLLM: a static Go server (main.go, flags.go, engine.go) and the image around it (image)."""
