"""`python -m serin.api crds charts/serin-crds/templates`: writes the CRDs; with `--check`, only compares them.

Run by `make crds` and `make check`. The first folder gets plain manifests, the second Helm templates. These have an
additional annotation that makes Helm keep the CRDs when the chart is uninstalled, because deleting a CRD deletes every
LLMDeployment.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from serin.api.crd import CUSTOM_RESOURCES, render_crd

_HEADER = "# Generated from operator/serin/api by `make crds`; do not edit.\n"
_KEEP = {"helm.sh/resource-policy": "keep"}


def manifest(crd: Mapping[str, Any]) -> str:
    """The CRD as a YAML file."""
    return _HEADER + yaml.safe_dump(dict(crd), sort_keys=False, width=116, allow_unicode=True)


def template(crd: Mapping[str, Any]) -> str:
    """The CRD as a Helm template that Helm never deletes."""
    kept = {**crd, "metadata": {**crd["metadata"], "annotations": _KEEP}}
    # Escape placeholders in descriptions, which Helm would evaluate as template actions.
    return manifest(kept).replace("{{", '{{ "{{" }}')


def files(manifests: Path, templates: Path) -> dict[Path, str]:
    """The content of every generated file, by path."""
    contents = {}
    for resource in CUSTOM_RESOURCES:
        crd = render_crd(resource)
        contents[manifests / f"{resource.plural}.yaml"] = manifest(crd)
        contents[templates / f"{resource.plural}.yaml"] = template(crd)
    return contents


def main() -> int:
    """Write or compare the files; returns 1 if `--check` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m serin.api", description="Write the CRDs.")
    parser.add_argument("manifests", type=Path, help="folder for the plain manifests")
    parser.add_argument("templates", type=Path, help="folder for the Helm templates")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with status 1 if a file differs")
    arguments = parser.parse_args()
    stale = []
    for path, content in files(arguments.manifests, arguments.templates).items():
        if path.is_file() and path.read_text(encoding="utf-8") == content:
            continue
        stale.append(path)
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    if arguments.check and stale:
        names = ", ".join(map(str, stale))
        sys.stderr.write(f"Out of date: {names}; run `make crds` and commit the result.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
