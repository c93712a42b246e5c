"""A fast stand-in for vLLM: a static Go server (main.go, flags.go, engine.go, measure.go) and its image (image)."""
