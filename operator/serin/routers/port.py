"""The interface of a router: two pure functions and the kind of the route.

Implemented by `gateway_api`. The reconciler applies the result of `render`, and gets the current split only from
`read`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from serin.api.llmdeployment import Routing
    from serin.manifests.owner import Owner
    from serin.rollout.snapshot import RouteView


class Router(Protocol):
    """Splits traffic between revisions by one kind of route."""

    def render(self, owner: Owner, spec: Routing, weights: Mapping[str, int], epoch: int) -> dict[str, Any]:
        """The route for these weights by revision, which sum to 10,000; a weight may be 0.

        The route also adds the epoch, 0 to 31, to every request.

        Raises:
            SpecError: the routing is not supported.
            ValueError: the weights are negative or do not sum to 10,000.
        """

    def read(self, obj: Mapping[str, Any] | None, owner_name: str) -> RouteView:
        """The split of a route and whether the gateway serves it; `obj` is None if there is no route."""
