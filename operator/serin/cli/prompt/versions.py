"""Order of versions by Semantic Versioning 2.0.0. Pure."""

from __future__ import annotations

Precedence = tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]]


def precedence(version: str) -> Precedence:
    """Sort key of a version: a later version has a greater key.

    Numbers compare as numbers (1.10.0 is later than 1.9.0), a release is later than its pre-releases, and build
    metadata has no influence. The version must match the grammar that the API enforces.
    """
    core, _, pre_release = version.partition("+")[0].partition("-")
    numbers = tuple(int(part) for part in core.split("."))
    identifiers = tuple(_identifier(part) for part in pre_release.split(".")) if pre_release else ()
    return numbers, not pre_release, identifiers


def is_pre_release(version: str) -> bool:
    """Whether a version is a pre-release, such as 2.0.0-rc.1."""
    return "-" in version.partition("+")[0]


def _identifier(part: str) -> tuple[bool, int, str]:
    # Numeric identifiers compare as numbers and come before all others.
    return (False, int(part), "") if part.isdigit() else (True, 0, part)
