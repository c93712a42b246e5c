"""What the sandbox needs of this machine: its paths, processes, locks, ports and terminal. The lowest layer."""
