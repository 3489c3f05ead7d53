"""The house stands: imports point down, files and functions stay small, nothing is left unfinished."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import ROOT

# Bottom floor first. A module imports only from floors below its own, or from its own where that is a folder.
FLOORS = [
    ["actors.errors", "actors.memory", "actors.turns"],
    ["actors.settings"],
    ["actors.remembered"],
    ["actors.timestamps"],
    ["actors.clock", "actors.domain"],
    ["actors.values"],
    ["actors.patterns"],
    ["actors.constraints"],
    ["actors.columns"],
    ["actors.arrow_plain", "actors.overwriting", "actors.spool"],
    ["actors.arrow_keys", "actors.arrow_stream"],
    ["actors.arrow_objects"],
    ["actors.arrow_values"],
    ["actors.rows", "actors.grid", "actors.pieces"],
    ["actors.amount"],
    ["actors.latest", "actors.merging", "actors.found", "actors.tail"],
    ["actors.layers"],
    ["actors.series", "actors.equality", "actors.selection"],
    ["actors.aggregates"],
    ["actors.ranged"],
    ["actors.stats.drift", "actors.stats"],
    ["actors.partition"],
    ["actors.storage.protocol"],
    ["actors.storage"],
    ["actors.drift"],
    ["actors.checks"],
    ["actors.findings"],
    ["actors.alerts"],
    ["actors.messages"],
    ["actors.mailbox"],
    ["actors.supervisor", "actors.repeats"],
    ["actors.registry"],
    ["actors.ingest"],
    ["actors.ingest_arrow"],
    ["actors.journal", "actors.store", "actors.monitor"],
    ["actors.remote", "actors.completing"],
    [
        "actors.checkpoint",
        "actors.serving",
        "actors.statistics",
        "actors.training",
        "actors.events",
        "actors.webhook",
    ],
    ["actors.training"],
    ["actors.watch"],
    ["actors.schedule"],
    ["actors.follower"],
    ["actors.judge"],
    ["actors.migration"],
    ["actors.router"],
    ["web.schema"],
    ["web.monitor_schema"],
    ["web.client_errors"],
    ["web.client_times"],
    ["web.client_plain", "web.client_moments"],
    ["web.client_calls"],
    ["web.client_events"],
    ["web.client_arrow"],
    ["web.client_registry"],
    ["web.client_values", "web.client_monitoring"],
    ["web.client_frames"],
    ["web.client"],
    ["timewell"],
    ["web.errors"],
    ["web.streamed_body", "web.outline", "web.untaken", "web.choices", "web.targets", "web.worker"],
    [
        "web.requests",
        "web.pages",
        "web.admission",
        "web.http1",
        "web.http2",
        "web.places",
        "web.keepalive",
        "web.logs",
        "web.traffic",
    ],
    ["web.front", "web.encodings"],
    ["web.items"],
    ["web.writing_rows"],
    ["web.bulk"],
    ["web.rows", "web.listing"],
    ["web.lanes", "web.statistics", "web.event_stream", "web.freshness"],
    ["web.metrics"],
    ["web.training_request"],
    ["web.openapi"],
    ["web.routes"],
    ["web.connections"],
    ["web.listening"],
    ["web.app", "web.fastlane"],
    ["web.serve"],
    ["web.commands"],
    ["web.cli"],
    ["web.__main__"],
]
MOST_LINES_OF_A_FILE = 480
MOST_LINES_OF_A_FUNCTION = 45
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "shared"}

FILES = sorted(path for folder in ("actors", "web", "loadtest") for path in (ROOT / folder).rglob("*.py"))
FILES.append(ROOT / "timewell.py")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


def floor_of(module: str) -> int:
    """The floor with the longest name that the module is or lies in."""
    found = [
        (len(name), floor)
        for floor, names in enumerate(FLOORS)
        for name in names
        if module == name or module.startswith(name + ".")
    ]
    assert found, f"{module} stands on no floor: add it to FLOORS"
    return max(found)[1]


def imports_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def known(name: str) -> bool:
    return name in MODULES and name not in ("actors", "web")


@pytest.mark.parametrize("path", [path for path in FILES if "loadtest" not in path.parts], ids=module_of)
def test_imports_point_down(path: Path) -> None:
    module = module_of(path)
    if module in ("actors", "web"):
        return
    mine = floor_of(module)
    for name in filter(known, imports_of(ast.parse(path.read_text()))):
        same_folder = floor_of(name) == mine and module.split(".")[:2] == name.split(".")[:2]
        assert floor_of(name) < mine or same_folder, f"{module} imports {name}, which is not below it"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_and_functions_stay_small_and_finished(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES_OF_A_FILE
    assert path.stem not in VAGUE_NAMES
    for mark in ("TODO", "FIXME", "XXX", "HACK"):
        assert mark not in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != "blueprint":
            assert (node.end_lineno or 0) - node.lineno < MOST_LINES_OF_A_FUNCTION, node.name


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", [path for path in FILES if "loadtest" not in path.parts], ids=module_of)
def test_no_assertion_guards_anything_since_python_may_be_told_to_leave_them_out(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assert):
            told = node.test.values if isinstance(node.test, ast.BoolOp) else [node.test]
            assert all(map(tells_a_type, told)), f"{module_of(path)}: assert {ast.unparse(node.test)}"


def tells_a_type(test: ast.expr) -> bool:
    """Whether a condition is one that only the type checker needs."""
    if isinstance(test, ast.Compare):
        return isinstance(test.ops[0], ast.IsNot) and ast.unparse(test.comparators[0]) == "None"
    return isinstance(test, ast.Call) and ast.unparse(test.func) == "isinstance"


def test_the_project_speaks_of_itself_alone() -> None:
    for path in (*FILES, *ROOT.glob("*.md"), *(ROOT / "tests").rglob("*.py")):
        if path.name != "test_floors.py":
            assert "/work/" not in path.read_text(), path
