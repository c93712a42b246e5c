"""Runs the benchmarks that need only a process: `python -m bench`."""

from bench import reading, settled

if __name__ == "__main__":
    settled.main()
    reading.main()
