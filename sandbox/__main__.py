"""`python -m sandbox`: see `sandbox.cli.main`."""

import sys

from sandbox.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
