"""The Kubernetes contract: what users write and read, as pydantic models, and the CRDs printed from them. Pure."""
