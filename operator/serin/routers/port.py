"""What a router is: two pure functions, and the kind of object that they deal with.

Implemented by `gateway_api`. The reconciler applies what `render` gives and reads the split back through `read`, never
from memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from serin.api.llmdeployment import Routing
    from serin.manifests.owner import Owner
    from serin.rollout.snapshot import RouteView


class Router(Protocol):
    """One way of splitting traffic between revisions."""

    @property
    def api_version(self) -> str:
        """Of the object that holds the split, which is named like the LLMDeployment."""

    @property
    def kind(self) -> str:
        """Of the same object."""

    def render(self, owner: Owner, spec: Routing, weights: Mapping[str, int], epoch: int) -> dict[str, Any]:
        """The whole route for these weights by revision, which sum to 10,000; a backend may have weight 0.

        Requests are stamped with the epoch, 0 to 31, in the same update.

        Raises:
            SpecError: the routing cannot be carried out as written.
            ValueError: the weights are not a split.
        """

    def read(self, obj: Mapping[str, Any] | None, owner_name: str) -> RouteView:
        """What the object says about the split and whether it is served; None is no route."""
