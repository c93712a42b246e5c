"""`python -m examples.demo --prepare` installs everything and plays nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from examples.demo import __main__ as demo
from examples.demo import prepare
from examples.demo.place import Place


def test_prepare_installs_everything_and_plays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(environment={}, gateway_url="http://gateway", prometheus_url="http://prometheus", sandbox=True)
    done: list[str] = []

    def noted(name: str) -> Callable[..., Place]:
        def run(*_: object) -> Place:
            done.append(name)
            return place

        return run

    for name in ("sandbox", "engines", "operator"):
        monkeypatch.setattr(prepare, name, noted(name))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(demo, "users_cluster", lambda: None)
    monkeypatch.setattr(demo, "check_demo", lambda: None)
    monkeypatch.setattr(demo, "remove_earlier_run", lambda *_: pytest.fail("the story has begun"))

    assert demo.main(["--prepare"]) == 0
    assert done == ["sandbox", "engines", "operator"]
