"""The tour of a running service."""

from __future__ import annotations

import httpx
import pytest

from loadtest.demo.__main__ import main, wait
from tests.live import LiveServer


def test_every_step_of_the_tour_is_answered_as_it_should_be(
    shared_server: LiveServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--url", shared_server.url]) == 0
    assert "/features/training-set" in capsys.readouterr().out


def test_a_service_that_is_starting_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if len(asked) < 3:
            raise httpx.ConnectError("refused")
        return httpx.Response(200)

    wait(httpx.Client(base_url="http://127.0.0.1:3001", transport=httpx.MockTransport(answer)))
    assert asked == ["/health/live"] * 3


def test_a_service_that_is_not_there_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("loadtest.demo.__main__.PATIENCE_SECONDS", 0.0)
    assert main(["--url", "http://127.0.0.1:1"]) == 1
    assert "start one with: make serve" in capsys.readouterr().err
