"""The commands against a real service: each scenario with tiny counts."""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

import loadtest.__main__ as command
from actors.timestamps import now
from loadtest.machine.connection import Connection
from loadtest.machine.service import running
from loadtest.openloop.load import add_load_arguments, add_scenario, load_of
from loadtest.openloop.parent import prepare
from loadtest.openloop.recording import empty
from loadtest.openloop.schedule import constant
from loadtest.soak.ledger import Book, counted, discrepancies, ledger
from loadtest.workloads.scenarios import SCENARIOS
from loadtest.workloads.shape import Shape
from loadtest.workloads.soaking import Soaking
from tests.live import ROOT, LiveServer

TINY = ["--warm-up", "0.1", "--population", "30", "--connections", "4"]


def run(server: LiveServer | None, results: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and the JSON that was kept."""
    where = ["--url", server.url] if server is not None else []
    code = command.main(
        [*arguments, *TINY, *where, "--results", str(results), "--json", str(results / "also.json")]
    )
    return code, msgspec.json.decode((results / "also.json").read_bytes())


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_run_of_each_scenario_is_answered_rightly_and_reported(
    shared_server: LiveServer, tmp_path: Path, scenario: str
) -> None:
    small = ["--observations", "5", "--slow-readers", "2", "--burst-every", "0.05"]
    code, kept = run(
        shared_server, tmp_path, "run", "--scenario", scenario, "--rate", "400", "--seconds", "0.2", *small
    )
    outcome = kept["outcome"]
    assert code == 0
    assert outcome["statuses"] == {"200": 80}
    assert outcome["latency"]["p50"] <= outcome["latency"]["p99"] <= outcome["latency"]["max"]
    assert outcome["content"]["sampled"] == 120
    assert outcome["content"]["wrong"] == outcome["slowReaders"]["failures"] == 0
    (report,) = tmp_path.glob(f"{scenario}-*.md")
    assert "p99.99" in report.read_text()
    assert sum(stretch["requests"] for stretch in outcome["timeline"]) == 80
    assert all(f" {stretch['requests']} |" in report.read_text() for stretch in outcome["timeline"])
    assert report.with_suffix(".json").read_bytes() == (tmp_path / "also.json").read_bytes()


def test_runs_that_begin_at_one_moment_have_entities_of_their_own() -> None:
    parser = argparse.ArgumentParser()
    add_scenario(parser)
    add_load_arguments(parser)
    loads = [load_of(parser.parse_args([]), 1.0, 1.0) for _ in range(100)]
    assert len({load.shape.prefix for load in loads}) == 100


def test_two_drivers_share_the_rate(shared_server: LiveServer, tmp_path: Path) -> None:
    code, kept = run(shared_server, tmp_path, "run", "--rate", "200", "--seconds", "0.3", "--processes", "2")
    assert code == 0
    assert kept["outcome"]["statuses"] == {"200": 60}
    assert kept["outcome"]["driver"]["processes"] == 2


def test_a_limit_is_found_on_a_service_of_its_own(tmp_path: Path) -> None:
    bounds = ["--p99-ms", "5000", "--first", "100", "--most", "100", "--seconds", "0.2"]
    code, kept = run(None, tmp_path, "find-limit", *bounds)
    assert code == 0
    assert kept["limit"] == [100, "ceiling"]
    assert [trial["rate"] for trial in kept["trials"]] == [100, 100]
    assert kept["trials"][-1]["confirms"]
    assert next(tmp_path.glob("limit-serve-*.md")).read_text().count("|  100 |") == 2


def test_a_soak_finds_everything_again_after_a_kill_under_load(tmp_path: Path) -> None:
    code, kept = run(None, tmp_path, "soak", "--minutes", "0.01", "--rate", "200", "--batch-values", "5")
    assert code == 0
    passed = {verdict["name"]: verdict["passed"] for verdict in kept["verdicts"]}
    assert passed == {
        "nothing lost": True,
        "nothing lost after SIGKILL under load and restart": True,
        "answers": True,
        "memory": None,
        "latency": None,
    }
    assert kept["written"] > 50
    report = next(tmp_path.glob("soak-*.md")).read_text()
    assert "- pass: nothing lost: 0 differences" in report and "|  MB |" in report


def test_a_value_that_was_acknowledged_and_is_not_there_is_missed(shared_server: LiveServer) -> None:
    server = running(shared_server.url)
    work = Soaking(Shape(prefix="gone-", filled_at=now(), population=10, batch_values=3), 20)
    prepare(server, work.shape)
    arrays = empty(constant(20, 1))
    arrays.sent[:] = arrays.done[:] = arrays.scheduled
    arrays.status[:] = 200
    arrays.status[4] = 400
    with Connection(server.address) as connection:
        before = counted(connection)
        for row in {*range(20)} - {4}:
            connection.ask(work.ask(row).request)
        assert discrepancies(connection, before, [Book(work, ledger(work, arrays))]) == []
        arrays.status[4] = 200
        found = discrepancies(connection, before, [Book(work, ledger(work, arrays))])
    entity = work.shape.entity_id(4 * 7_919 % 10)
    assert [one.partition(":")[0] for one in found[:-1]] == [f"loadtest.f00.v1 of {entity}"] * (len(found) - 1)
    assert found[-1].startswith("loadtest.f00.v1: statistics count")


def test_a_service_that_answers_wrongly_fails_the_run(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Wrong) as service, ThreadPoolExecutor(1) as pool:
        serving = pool.submit(service.serve_forever)
        arguments = ["run", "--rate", "50", "--seconds", "0.2", *TINY, "--results", str(tmp_path)]
        assert command.main([*arguments, "--url", f"http://127.0.0.1:{service.server_port}"]) == 1
        service.shutdown()
        serving.result()


class Wrong(BaseHTTPRequestHandler):
    """Acknowledges everything, serves nothing, quickly."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "14")
        self.end_headers()
        self.wfile.write(b'{"results":[]}')

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:3001", "http://example.org", "http://0.0.0.0:3001", "[::]:3001"]
)
@pytest.mark.parametrize("name", ["run", "find-limit", "soak"])
def test_other_machines_are_not_put_under_load(
    url: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rate = ["--rate", "5"] if name == "run" else []
    assert command.main([name, *rate, "--url", url, "--results", str(tmp_path)]) == 2
    assert "only services on this machine's loopback" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("localhost", ("127.0.0.1", 3001)),
        ("http://[::1]:99/", ("::1", 99)),
    ],
)
def test_loopback_has_several_names(url: str, address: tuple[str, int]) -> None:
    assert running(url).address == address


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["run"],
        ["run", "--rate", "0"],
        ["run", "--rate", "nan"],
        ["run", "--rate", "1e9"],
        ["run", "--rate", "5", "--writes", "2"],
        ["run", "--rate", "5", "--connections", "0"],
        ["soak", "--features", "1"],
        ["soak", "--minutes", "1e9"],
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str]) -> None:
    try:
        code = command.main(arguments)
    except SystemExit as end:
        code = int(str(end.code))
    assert code == 2


def test_a_command_is_imported_only_when_it_is_asked_for() -> None:
    code = (
        "import sys; from loadtest.__main__ import main; main(['-h'])\n"
        "print(sorted(name for name in sys.modules if 'loadtest.' in name))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert said.splitlines()[-1] == "['loadtest.__main__']"
    assert all(name in said for name in ("run", "find-limit", "soak", "compare"))
