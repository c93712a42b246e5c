"""Route and middleware agree on header names and values, which both define."""

from __future__ import annotations

from model_server.serin_model_server import identity
from serin.analysis import counts
from serin.rollout.revision import revision
from serin.routers import gateway_api


def test_middleware_reads_the_headers_of_the_route() -> None:
    assert identity.REVISION_HEADER.decode() == gateway_api.REVISION_HEADER
    assert identity.EPOCH_HEADER.decode() == gateway_api.EPOCH_HEADER


def test_the_ring_of_epochs_is_as_large_on_both_sides() -> None:
    assert identity.EPOCHS == counts.EPOCHS


def test_revision_header_is_parsed_by_middleware() -> None:
    named = revision("engine", "prompt")
    stamped = [(identity.REVISION_HEADER, named.encode()), (identity.EPOCH_HEADER, b"31")]
    assert identity.read_stamp(stamped).identity == (named, "31")
