"""An open-loop load generator for anything that speaks the OpenAI API: tickets in, judged answers out.

generator   `Load`: start, stop, outcomes (the demo and the end-to-end tests import it)
outcome     what is known of one request, and counts over many
Run it by itself with `python -m examples.load --url http://… --rps 4 --seconds 60`.
"""

from examples.load.generator import Load
from examples.load.outcome import Counts, Outcome, count

__all__ = ["Counts", "Load", "Outcome", "count"]
