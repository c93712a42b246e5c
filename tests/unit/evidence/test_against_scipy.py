"""The distribution of a stratum under H0, compared with SciPy's Fisher's non-central hypergeometric distribution."""

from __future__ import annotations

import math

import pytest
from scipy.stats import nchypergeom_fisher

from serin.evidence.conditional import ConditionalTest, Parameters
from serin.evidence.slices import PRIOR, PSI, Slice

MARGINS = pytest.mark.parametrize("margin", [1.0, 1.1, 1.25, 2.0], ids=lambda m: f"margin {m}")
STRATA = pytest.mark.parametrize(
    ("n1", "n0", "bad"),
    [(3, 3, 1), (10, 40, 7), (30, 270, 5), (150, 150, 40), (600, 2400, 30), (50, 50, 90)],
    ids=str,
)


@MARGINS
@STRATA
def test_gain_of_each_alternative_matches_scipy(n1: int, n0: int, bad: int, margin: float) -> None:
    """An alternative k gains x1 ln psi_k - Z_k, with Z_k = ln E[psi_k ** x1] under H0."""
    law = nchypergeom_fisher(n1 + n0, n1, bad, margin)
    support = range(max(0, bad - n0), min(n1, bad) + 1)
    norms = [math.log(math.fsum(law.pmf(j) * psi**j for j in support)) for psi in PSI]
    for x1 in (support[0], support[len(support) // 2], support[-1]):
        test = ConditionalTest(Parameters(margin=margin))
        test = test.add(Slice(n1, x1, n0, bad - x1))
        expected = [math.log(0.55 * w) + x1 * math.log(psi) - z for w, psi, z in zip(PRIOR, PSI, norms, strict=True)]
        assert test.active == pytest.approx(expected, abs=1e-6)


@MARGINS
@STRATA
def test_step_is_fair_under_scipys_distribution(n1: int, n0: int, bad: int, margin: float) -> None:
    """The e-value of one step, cut off at the cap, has mean 1."""
    parameters = Parameters(margin=margin)
    law = nchypergeom_fisher(n1 + n0, n1, bad, margin)
    top, mean = -math.log(parameters.alpha) / 2, 0.0
    for j in range(max(0, bad - n0), min(n1, bad) + 1):
        test = ConditionalTest(parameters)
        test = test.add(Slice(n1, j, n0, bad - j))
        mean += float(law.pmf(j)) * math.exp(min(test.log_e, top))
    assert mean == pytest.approx(1, abs=1e-6)
