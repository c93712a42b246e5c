"""`bench.switching`: how long each pod took to show a split document, or one after it."""

from __future__ import annotations

from bench.switching.watching import Splits
from serin.manifests.split_document import SplitDocument


def document(sequence: int) -> SplitDocument:
    return SplitDocument(sequence=sequence, shares=(("88e4b76379", 10_000),), salt="88e4b76379", token="0" * 16)


def test_pod_counts_from_the_document_that_it_shows_or_a_later_one() -> None:
    first, second, third = map(document, (1, 2, 3))
    splits = Splits()
    for at, each in ((0.0, first), (10.0, second), (10.5, second), (20.0, third)):
        splits.store(at, each)
    for at, pod, shown in ((1.0, "a", first), (11.0, "a", second), (12.0, "a", second), (21.0, "a", third)):
        splits.show(at, pod, shown.digest)
    splits.show(1.0, "b", first.digest)
    splits.show(23.0, "b", third.digest)  # it never showed the second one
    splits.show(1.0, "c", first.digest)  # and this one neither of the later ones
    assert [document for _, document in splits.documents] == [first, second, third]
    assert splits.seconds(1) == [1.0, 13.0]
    assert splits.seconds(2) == [1.0, 3.0]
