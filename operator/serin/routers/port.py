"""The interface of a router: two pure functions and the kind of the route.

Implemented by `gateway_api`. The planner renders the route, and the reconciler gets the current split only from `read`
and the split documents (`serin.routers.split`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from serin.api.llmdeployment import Routing
    from serin.manifests.owner import Owner
    from serin.rollout.snapshot import RouteView


@dataclass(frozen=True)
class Backend:
    """A Service that the route sends requests to."""

    name: str
    """End of the Service's name, after that of the LLMDeployment: an engine revision, or a revision."""
    weight: int
    """Parts of 10,000."""
    revision: str | None = None
    """The revision that the route must name to the pods; None: they know it from their split document."""


class Router(Protocol):
    """Splits traffic between backends by one kind of route."""

    def render(self, owner: Owner, spec: Routing, backends: Sequence[Backend], sequence: int) -> dict[str, Any]:
        """The route with these backends, in this order; their weights sum to 10,000, and one may be 0.

        The route also adds the epoch, `sequence` modulo 32, to every request.

        Raises:
            SpecError: the routing is not supported.
            ValueError: the weights are negative or do not sum to 10,000.
        """

    def reweight(
        self, owner: Owner, obj: Mapping[str, Any], backends: Sequence[Backend], sequence: int
    ) -> dict[str, Any] | None:
        """The existing route with these weights and another epoch, and nothing else changed.

        The API server has accepted everything else in it before. No backend enters: None if a new one has weight.
        """

    def read(self, obj: Mapping[str, Any] | None, owner_name: str) -> RouteView:
        """The split of a route by backend, and whether the gateway serves it; `obj` is None if there is no route."""
