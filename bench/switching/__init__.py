"""How long forty pods take to use a new split document, on the sandbox's kubelet."""
