"""Entries of the cache: their names, and that each appears complete or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.host.cache import PARTIAL, building, key_of


def test_key_depends_on_every_part_and_on_where_parts_end() -> None:
    assert key_of("ab", "c") == key_of(b"ab", "c")
    assert len({key_of("ab", "c"), key_of("a", "bc"), key_of("abc"), key_of("c", "ab")}) == 4


def test_entry_appears_when_complete_and_is_built_once(tmp_path: Path) -> None:
    target = tmp_path / "kind" / "key"
    with building(target) as partial:
        assert partial is not None
        (partial / "file").write_text("content")
        assert not target.exists()
    assert (target / "file").read_text() == "content"
    with building(target) as again:
        assert again is None


def test_failed_build_leaves_no_entry_and_can_be_repeated(tmp_path: Path) -> None:
    target = tmp_path / "key"
    with pytest.raises(ValueError, match="broken"), building(target):
        raise ValueError("broken")
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []
    with building(target) as partial:
        assert partial is not None
    assert target.is_dir()


def test_next_build_removes_leftovers_of_killed_builders_only(tmp_path: Path) -> None:
    for name in ("key-1", "abandoned-1"):
        (tmp_path / f"{PARTIAL}{name}").mkdir()
    with building(tmp_path / "busy") as busy:
        assert busy is not None
        assert not (tmp_path / f"{PARTIAL}abandoned-1").exists()
        with building(tmp_path / "key") as partial:
            assert partial is not None
            assert list(partial.iterdir()) == []
            assert not (tmp_path / f"{PARTIAL}key-1").exists()
            assert busy.is_dir()
