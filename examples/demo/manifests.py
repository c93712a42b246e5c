"""The YAML files of two examples, adapted to the cluster. Pure except for reading the file.

Called by story and the scenes. In the sandbox the files are applied unchanged. On another cluster the settings of the
sandbox (engine image, mounted directories, model paths, gateway) are replaced by the user's.
"""

from __future__ import annotations

import copy
from pathlib import Path

from examples.demo.cluster import Object, load_manifests
from examples.demo.place import ROOT, Place

FIRST_CANARY = ROOT / "examples" / "01-first-canary"
INSTALL = FIRST_CANARY / "01-install.yaml"
BETTER = FIRST_CANARY / "02-better-checkpoint.yaml"
TOO_SMALL = FIRST_CANARY / "03-too-small.yaml"
PROMPT_CANARY = ROOT / "examples" / "02-prompt-canary"
FIRST_PROMPT = PROMPT_CANARY / "01-install.yaml"
BETTER_PROMPT = PROMPT_CANARY / "02-better-prompt.yaml"
WRONG_KEYS = PROMPT_CANARY / "03-wrong-keys.yaml"
KIND = "LLMDeployment"


def manifests(path: Path, place: Place) -> list[Object]:
    """The objects of a file in their order, adapted to the place."""
    written = load_manifests(path)
    return [adapted(each, place) if each["kind"] == KIND and not place.sandbox else each for each in written]


def manifest(path: Path, place: Place) -> Object:
    """The LLMDeployment of a file, adapted to the place."""
    (found,) = (each for each in manifests(path, place) if each["kind"] == KIND)
    return found


def adapted(written: Object, place: Place) -> Object:
    """A copy of the object without settings that work in the sandbox only."""
    fitting = copy.deepcopy(written)
    spec = fitting["spec"]
    spec["model"]["source"] = place.models.get(spec["model"]["source"], spec["model"]["source"])
    # Without these three fields the operator uses its default image, one GPU, and no directories of the node.
    spec.pop("podTemplate", None)
    for field in ("image", "resources"):
        spec["engine"].pop(field, None)
    if place.engine_image:
        spec["engine"]["image"] = place.engine_image
    namespace, name = place.gateway
    spec["routing"]["gateway"]["parentRefs"] = [{"name": name, "namespace": namespace}]
    return fitting
