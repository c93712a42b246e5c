"""Runs the benchmarks that need only a process: `python -m bench`."""

from bench import evidence, reading, settled

if __name__ == "__main__":
    settled.main()
    evidence.main()
    reading.main()
