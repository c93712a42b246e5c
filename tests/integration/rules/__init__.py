"""Every validation rule of the API with values that it accepts and values that it refuses.

One entry per rule and place. `test_validation` sends each value to a real API server and to the parser, and fails if a
rule of the CRDs is missing here.
"""

from tests.integration.rules.analysis import ANALYSIS, PATIENCE
from tests.integration.rules.bounds import BOUNDS
from tests.integration.rules.prompts import PROMPTS, SERVING_PROMPTS, STICKY
from tests.integration.rules.rule import Rule
from tests.integration.rules.spec import ENGINE, NAMES, POD_TEMPLATE, ROLLOUT, ROUTING, SOURCES

_LLMDEPLOYMENT = (*NAMES, *SOURCES, *ENGINE, *POD_TEMPLATE, *ROUTING, *STICKY, *ROLLOUT, *ANALYSIS, *PATIENCE)
RULES = (*_LLMDEPLOYMENT, *SERVING_PROMPTS, *PROMPTS)

__all__ = ["BOUNDS", "RULES", "Rule"]
