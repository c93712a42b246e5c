"""How long many pods take to use a new split document, on the sandbox's kubelet."""
