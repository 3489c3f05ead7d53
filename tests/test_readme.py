"""The README is true: its sessions run against a live server, its tables are those of the code."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.live import ROOT, LiveServer
from web.cli import describe_settings, main
from web.routes.document import ROUTES

README = (ROOT / "README.md").read_text()


class Command(NamedTuple):
    """A curl command of the README, and what it says the answer is; … stands for any text."""

    words: list[str]
    expected: str


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[Command]:
    found = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines()
            for end in range(1, len(lines) + 1):
                with contextlib.suppress(ValueError):
                    words = shlex.split("\n".join(lines[:end]))
                    if not lines[end - 1].endswith("\\"):
                        found.append(Command(words, "\n".join(lines[end:])))
                        break
    return found


def run(server: LiveServer, words: list[str]) -> str:
    """What curl would print."""
    assert words[:2] == ["curl", "-s"]
    url = next(word for word in words if word.startswith("localhost:3001"))
    headers = dict([words[words.index("-H") + 1].split(": ")]) if "-H" in words else {}
    target = url.removeprefix("localhost:3001")
    if "-d" in words:
        return server.http.post(target, content=words[words.index("-d") + 1].encode(), headers=headers).text
    return server.http.get(target, headers=headers).text


def test_the_sessions_of_the_readme_print_what_it_says(server: LiveServer) -> None:
    session = commands()
    assert len(session) >= 8
    for command in session:
        got = run(server, command.words)
        pattern = ".+?".join(map(re.escape, command.expected.split("…")))
        assert re.fullmatch(pattern, got), f"{command.words}\n{got}"


def test_the_python_of_the_readme_runs_and_finds_the_history_on_disk(server: LiveServer) -> None:
    for command in commands():
        run(server, command.words)
    first, client, second = blocks("python")
    printed = execute(first.replace("http://localhost:3001", server.url))
    assert "5 present" in printed and "purchases_7d" in printed
    assert "6 present" in execute(client.replace("http://localhost:3001", server.url))
    server.stop(signal.SIGTERM)
    checkpointed = LiveServer(server.data_dir, CHECKPOINT_SECONDS="0.05")
    with checkpointed:
        while not list((server.data_dir / "history").glob("run=*/*.parquet")):
            checkpointed.get("/health/live")
    assert "grace" in execute(second.replace("data/history", str(server.data_dir / "history")))


def test_the_shell_of_the_readme_runs_in_the_checkout(server: LiveServer, tmp_path: Path) -> None:
    for command in commands():
        run(server, command.words)
    (block,) = (one for one in blocks("sh") if "timewell register" in one)
    work = tmp_path / "checkout"
    work.mkdir()
    (work / "examples").symlink_to(ROOT / "examples")
    (work / "data").symlink_to(server.data_dir)
    (work / ".venv" / "bin").mkdir(parents=True)
    (work / ".venv" / "bin" / "timewell").symlink_to(Path(sys.executable).parent / "timewell")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def shell(script: str) -> str:
        command = ["bash", "-c", f"set -e\n{script}"]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    printed = shell(block.replace("http://localhost:3001", server.url))
    assert "training.csv" in printed and "purchases.parquet" in printed
    assert (work / "training.csv").read_text().splitlines() == [
        "entityId,timestamp,zip,bought,purchases_7d",
        "ada,2025-11-06T00:00:00Z,00501,true,3",
        "grace,2025-11-10T00:00:00Z,A12,false,2",
    ]
    server.stop(signal.SIGTERM)
    checking, forgetting = (one for one in blocks("sh") if "check-data" in one)
    assert shell(checking) == shell(forgetting).splitlines(True)[0] != ""


def test_what_the_python_of_the_readme_imports_is_installed_by_what_it_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = [word for block in blocks("sh") for line in block.splitlines() if " pip install " in line
            for word in shlex.split(line, comments=True)]  # fmt: skip
    extras = re.findall(r"\.\[(\w+)\]", " ".join(said))
    named = [*project["dependencies"], *said, *(one for extra in extras for one in
             project["optional-dependencies"][extra])]  # fmt: skip
    installed = {re.split(r"[\[<>=]", one)[0].replace("-", "_") for one in named} | {"timewell"}
    imported = {
        one for block in blocks("python") for one in re.findall(r"^(?:import|from) (\w+)", block, re.MULTILINE)
    }
    assert {"pandas", "requests"} <= imported <= installed


def execute(code: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    return printed.getvalue()


@pytest.mark.parametrize(("name", "about"), describe_settings())
def test_the_settings_table_has_each_setting_with_its_default(name: str, about: dict[str, Any]) -> None:
    row = re.search(rf"^\| `{name.upper()}` \| `(.*?)` \| (.*?) \|$", README, re.MULTILINE)
    assert row is not None, name
    assert row[1] == (str(about["default"]) or '""')
    assert row[2].startswith(about["help"])


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_the_route_table_has_each_route(route: Any) -> None:
    whole = route.path.endswith("/{reference}")
    path = route.path.replace("{reference}", "{id}" if route.method == "delete" and whole else "{ref}")
    versions = path.replace("{ref}/versions", "{entity.name}/versions")
    assert f"`{route.method.upper()} {path}`" in README or f"`{route.method.upper()} {versions}`" in README


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_the_links_of_the_papers_lead_to_files_that_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (ROOT / target).exists(), target


def test_the_make_targets_that_the_papers_name_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"`make (\w+)`", (ROOT / page).read_text()):
            assert re.search(rf"^{target}\b.*:", makefile, re.MULTILINE) or f" {target}:" in makefile, target


def test_the_commands_of_the_paper_on_shared_stores_run(database: str, tmp_path: Path) -> None:
    paper = (ROOT / "docs" / "shared-store.md").read_text().replace("./data", str(tmp_path / "data"))
    paper = re.sub(r"postgresql://timewell:secret@db\.example/features[^'\s]*", database, paper)
    served, moved = re.findall(r"^```sh\n(.*?)^```", paper, re.MULTILINE | re.DOTALL)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"\.\[(\w+)\]", served)) == {"postgresql", "redis"} < set(extras)
    with LiveServer(tmp_path / "data") as server:
        id_ = server.register("clicks")["id"]
        server.stop()
    program, *words = shlex.split(moved)
    assert program == ".venv/bin/timewell" and main(words) == 0
    settings = dict(word.split("=", 1) for word in shlex.split(served.splitlines()[1]) if "=" in word)
    with LiveServer(tmp_path / "none", **settings) as server:
        assert server.get(f"/features/{id_}").status_code == 200
