"""The tour of a running service."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

import httpx
import pytest

from tests.live import ROOT, LiveServer


@pytest.fixture(scope="module")
def tour() -> ModuleType:
    spec = spec_from_file_location("tour", ROOT / "examples" / "tour.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_step_of_the_tour_is_answered_as_it_should_be(
    tour: ModuleType, shared_server: LiveServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tour.main(["--url", shared_server.url]) == 0
    assert "/features/training-set" in capsys.readouterr().out


def test_a_service_that_is_starting_is_waited_for(tour: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if len(asked) < 3:
            raise httpx.ConnectError("refused")
        return httpx.Response(200)

    tour.wait(httpx.Client(base_url="http://127.0.0.1:3001", transport=httpx.MockTransport(answer)))
    assert asked == ["/health/live"] * 3


def test_a_service_that_is_not_there_is_told_of(
    tour: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tour, "PATIENCE_SECONDS", 0.0)
    assert tour.main(["--url", "http://127.0.0.1:1"]) == 1
    assert "start one with: make serve" in capsys.readouterr().err
