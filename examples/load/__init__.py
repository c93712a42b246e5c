"""An open-loop load generator for the OpenAI API: it sends tickets and checks the answers.

generator   `Load`: start, stop, outcomes (the demo and the end-to-end tests import it)
outcome     the outcome of one request, and counts over many
Command line: `python -m examples.load --url http://… --rps 4 --seconds 60`.
"""

from examples.load.generator import Load
from examples.load.outcome import Counts, Outcome, count

__all__ = ["Counts", "Load", "Outcome", "count"]
