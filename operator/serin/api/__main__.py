"""`python -m serin.api crds charts/serin-crds/templates`: write the CRDs; with `--check`, only say whether they differ.

Run by `make crds` and `make check`. The first folder gets plain manifests, the second Helm templates, which differ by
an annotation: uninstalling the chart must not delete the CRDs, because that would delete every model with them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from serin.api.crd import KINDS, render_crd

_HEADER = "# Generated from operator/serin/api by `make crds`; change it there.\n"
_KEEP = {"helm.sh/resource-policy": "keep"}


def manifest(crd: Mapping[str, Any]) -> str:
    """The CRD as a YAML file."""
    return _HEADER + yaml.safe_dump(dict(crd), sort_keys=False, width=116, allow_unicode=True)


def template(crd: Mapping[str, Any]) -> str:
    """The CRD as a Helm template, which Helm never deletes."""
    kept = {**crd, "metadata": {**crd["metadata"], "annotations": _KEEP}}
    # Descriptions may show placeholders, which Helm must not take for its own.
    return manifest(kept).replace("{{", '{{ "{{" }}')


def files(manifests: Path, templates: Path) -> dict[Path, str]:
    """Every file that is generated, with its content."""
    contents = {}
    for kind in KINDS:
        crd = render_crd(kind)
        contents[manifests / f"{kind.plural}.yaml"] = manifest(crd)
        contents[templates / f"{kind.plural}.yaml"] = template(crd)
    return contents


def main() -> int:
    """Write or compare; 1 if something differs."""
    parser = argparse.ArgumentParser(prog="python -m serin.api", description="Write the CRDs.")
    parser.add_argument("manifests", type=Path, help="folder for plain manifests")
    parser.add_argument("templates", type=Path, help="folder for Helm templates")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if something differs")
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
        sys.stderr.write(f"Stale: {names}; run `make crds` and commit the result.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
