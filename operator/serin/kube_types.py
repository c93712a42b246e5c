"""Types for Kubernetes objects and their keys, shared by all layers. Imports nothing of Serin."""

from __future__ import annotations

from typing import Any

Key = tuple[str, str]
"""Namespace and name of an object."""

Object = dict[str, Any]
"""A Kubernetes object as decoded JSON."""
