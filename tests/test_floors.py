"""The house stands: imports point down, files and functions stay small, nothing is left unfinished."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.live import ROOT

MOST_LINES_OF_A_FILE = 480
MOST_LINES_OF_A_FUNCTION = 45
HOUSE = ("timewell", "actors", "web")
"""The packages, the lowest first: the client knows no server, the core no HTTP."""
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "shared"}

TWINS = {
    "the client's errors are named like the service's": (
        "Conflict Gone InvalidInput NotFound TimewellError TooLarge Unavailable UnsupportedMediaType"
    ),
    "what the contract shows is named like what the core has": "Deleted Event Observations PutGroup Written",
    "a request and a route of the client are named like those of the service": "Request Route",
    "each shared store has its own": "RowReader RowWriter Shapes Uncounted Writers",
}
"""Classes that have a namesake, by the reason."""

FILES = sorted(path for folder in (*HOUSE, "loadtest") for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def lines_of(room: str) -> dict[str, int]:
    """The names in a room, by the line of its `__init__` that lists them: its floors, the lowest first."""
    text = ast.get_docstring(tree_of(ROOT / room.replace(".", "/") / "__init__.py")) or ""
    return {
        name.removesuffix(".py").removesuffix("/"): number
        for number, line in enumerate(text.splitlines())
        for name in re.findall(r"(?:^|(?<= ))(?:[a-z0-9_]+\.py|[a-z0-9_]+/)(?= |$)", line)
    }


def imports_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


IN = {module_of(path): sorted(path.parent.glob("*.py")) for path in FILES if path.name == "__init__.py"}
"""The files of each room."""
ROOMS = sorted(IN)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_lists_all_that_is_in_it(room: str) -> None:
    inside = {name.removeprefix(f"{room}.").partition(".")[0] for name in MODULES if name.startswith(f"{room}.")}
    assert set(lines_of(room)) == inside


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_down(room: str) -> None:
    """In every room from what stands on lines above; the core not to the front end, the client to neither.

    loadtest has of the tests only their servers.
    """
    for path in IN[room]:
        for name in imports_of(tree_of(path)):
            look_down(module_of(path), name)


def look_down(module: str, name: str) -> None:
    """That a module may import what has this name."""
    mine, other = (one.partition(".")[0] for one in (module, name))
    if mine == "loadtest":
        assert other != "tests" or name.startswith("tests.servers"), f"{module}: {name}"
    else:
        assert other not in (*HOUSE[HOUSE.index(mine) + 1 :], "loadtest", "tests"), f"{module}: {name}"
    if name not in MODULES or name in ROOMS:
        return
    for room in ROOMS:
        if module.startswith(f"{room}.") and name.startswith(f"{room}."):
            mine, other = (one.removeprefix(f"{room}.").partition(".")[0] for one in (module, name))
            lines = lines_of(room)
            assert mine == other or lines[other] < lines[mine], f"{module} imports {name}, which is not below it"


@pytest.mark.parametrize("room", ROOMS)
def test_files_and_functions_stay_small_and_finished(room: str) -> None:
    for path in IN[room]:
        text = path.read_text()
        assert len(text.splitlines()) <= MOST_LINES_OF_A_FILE, path
        assert path.stem not in VAGUE_NAMES
        for mark in ("TODO", "FIXME", "XXX", "HACK"):
            assert mark not in text, path
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno
                assert lines < MOST_LINES_OF_A_FUNCTION, f"{module_of(path)}: {node.name}"


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_says_what_it_is(room: str) -> None:
    for path in IN[room]:
        assert ast.get_docstring(tree_of(path)), path


@pytest.mark.parametrize("room", [room for room in ROOMS if not room.startswith("loadtest")])
def test_no_assertion_guards_anything_since_python_may_be_told_to_leave_them_out(room: str) -> None:
    for path in IN[room]:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Assert):
                told = node.test.values if isinstance(node.test, ast.BoolOp) else [node.test]
                assert all(map(tells_a_type, told)), f"{module_of(path)}: assert {ast.unparse(node.test)}"


def test_a_class_has_its_name_alone() -> None:
    named = Counter(
        part.name
        for path in FILES
        if path.relative_to(ROOT).parts[0] in HOUSE
        for part in tree_of(path).body
        if isinstance(part, ast.ClassDef) and not part.name.startswith("_")
    )
    assert {name for name, count in named.items() if count > 1} == set(" ".join(TWINS.values()).split())


def test_every_file_is_in_a_room() -> None:
    assert sorted(path for paths in IN.values() for path in paths) == FILES


def tells_a_type(test: ast.expr) -> bool:
    """Whether a condition is one that only the type checker needs."""
    if isinstance(test, ast.Compare):
        return isinstance(test.ops[0], ast.IsNot) and ast.unparse(test.comparators[0]) == "None"
    return isinstance(test, ast.Call) and ast.unparse(test.func) == "isinstance"


def test_the_project_speaks_of_itself_alone() -> None:
    for path in (*FILES, *ROOT.glob("*.md"), *(ROOT / "tests").rglob("*.py")):
        if path.name != "test_floors.py":
            assert "/work/" not in path.read_text(), path


@pytest.mark.parametrize("paper", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_the_papers_name_files_that_are_there(paper: str) -> None:
    there = [
        f"/{path.relative_to(ROOT)}"
        for folder in (*HOUSE, "tests", "loadtest", "docs")
        for path in (ROOT / folder).rglob("*.py")
    ]
    for named in re.findall(r"`([\w/]+\.py)`", (ROOT / paper).read_text()):
        assert any(path.endswith(f"/{named}") for path in there), named
