"""Reads from the Prometheus at a URL and prints what that cost: `python -m bench.reading URL`; alone, the benchmark."""

import asyncio
import sys

from bench import reading

if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(reading.read(sys.argv[1]))
    else:
        reading.main()
