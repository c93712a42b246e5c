"""Runs every benchmark: `python -m bench`."""

from bench.settled import main

if __name__ == "__main__":
    main()
