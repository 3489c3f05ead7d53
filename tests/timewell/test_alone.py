"""The client as its own distribution installs it: with nothing of the server, wherever it is used."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from tests.live import ROOT, LiveServer

ALONE: dict[str, Any] = tomllib.loads((ROOT / "timewell" / "pyproject.toml").read_text())["project"]
WHOLE: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

PLAIN = """
import sys
from timewell import Client, NotFound

with Client(sys.argv[1]) as client:
    client.register("visits", "user", "integer")
    client.write("user.visits", "ada", 3)
    (ada,) = client.serve(["ada"], ["user.visits"])
    assert ada.features == {"user.visits": 3}
    try:
        client.feature("user.none")
    except NotFound:
        pass
    try:
        client.serve_frame(["ada"], ["user.visits"])
    except ImportError as error:
        assert "pip install" in str(error)
    else:
        raise AssertionError("frames need a library that is not there")
"""
FRAMES = """
import sys
from datetime import datetime
import polars as pl
from timewell import Client

with Client(sys.argv[1]) as client:
    client.register("spent", "user", "number")
    rows = pl.DataFrame({"entityId": ["ada"], "timestamp": ["2025-11-08T10:00:00Z"], "spent": [1.5]})
    assert client.write_frame(rows, "user").count == 1
    keys = pl.DataFrame({"entityId": ["ada"], "timestamp": [datetime(2025, 11, 9)]})
    assert client.training_set(keys, ["user.spent"])["user.spent"].to_list() == [1.5]
"""
COMMANDS = """
import sys
from timewell.cli import main

def run(*words):
    return main([*words, "--url", sys.argv[1]])

assert run("register", "-f", sys.argv[2] + "/features.yaml") == 0
assert run("load", sys.argv[2] + "/purchases.csv", "--entity", "user", "--id-column", "user_id",
           "--timestamp-column", "ts") == 0
assert run("export", "purchases_7d", "--entity-ids", "ada", "-o", "ada.ndjson") == 0
assert run("training-set", "--rows", sys.argv[2] + "/labels.csv", "--features", "purchases_7d", "-o", "t.csv") == 0
"""
NOTHING_OF_THE_SERVER = """
assert not {"actors", "web", "quart", "trio"} & {name.partition(".")[0] for name in sys.modules}
"""


def needed(requirements: list[str], found: set[str]) -> set[str]:
    """The names of distributions, with all that they need in turn."""
    for one in map(Requirement, requirements):
        if one.name not in found and (one.marker is None or one.marker.evaluate({"extra": ""})):
            found.add(one.name)
            needed(distribution(one.name).requires or [], found)
    return found


class Installed:
    """An environment with the client and what it names; for frames, with what its extra names as well."""

    def __init__(self, folder: Path, wheel: Path, requirements: list[str]) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.python = folder / "bin" / "python"
        (packages,) = folder.glob("lib/python*/site-packages")
        ZipFile(wheel).extractall(packages)
        for name in needed(requirements, set()):
            files = distribution(name).files or []
            for top in {one.parts[0] for one in files} - {"..", "__pycache__"}:
                (packages / top).symlink_to(Path(str(distribution(name).locate_file(top))).resolve())

    def run(self, code: str, folder: Path, *words: str) -> str:
        """Run a program in a folder, whose modules are found first; what it says on stderr."""
        done = subprocess.run(
            [self.python, "-c", code + NOTHING_OF_THE_SERVER, *words],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(
        ROOT / "timewell", folder / "timewell", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-P", "-c", build, folder], cwd=folder / "timewell", check=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("server")) as live:
        yield live


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    return Installed(tmp_path_factory.mktemp("alone"), wheel, ALONE["dependencies"])


@pytest.fixture(params=["packages", "modules"])
def decoys(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder that has a `web` and an `actors` of its own, or web.py."""
    for name in ("web", "actors"):
        decoy = tmp_path / name / "__init__.py" if request.param == "packages" else tmp_path / f"{name}.py"
        decoy.parent.mkdir(exist_ok=True)
        decoy.write_text("raise AssertionError('the client has nothing to do with this')\n")
    return tmp_path


def test_the_client_works_alone_beside_others_of_the_servers_names(
    alone: Installed, server: LiveServer, decoys: Path
) -> None:
    alone.run(PLAIN, decoys, server.url)


def test_frames_need_no_more_than_the_extra_says(
    tmp_path_factory: pytest.TempPathFactory, wheel: Path, server: LiveServer, tmp_path: Path
) -> None:
    requirements = [*ALONE["dependencies"], *ALONE["optional-dependencies"]["polars"]]
    Installed(tmp_path_factory.mktemp("frames"), wheel, requirements).run(FRAMES, tmp_path, server.url)


def test_the_commands_work_alone_with_what_their_extra_says(
    tmp_path_factory: pytest.TempPathFactory, wheel: Path, server: LiveServer, tmp_path: Path
) -> None:
    requirements = [*ALONE["dependencies"], *ALONE["optional-dependencies"]["commands"]]
    installed = Installed(tmp_path_factory.mktemp("commands"), wheel, requirements)
    installed.run(COMMANDS, tmp_path, server.url, str(ROOT / "examples"))
    assert '"purchases_7d":7}' in (tmp_path / "ada.ndjson").read_text()


def test_a_command_says_what_it_lacks(alone: Installed, server: LiveServer, tmp_path: Path) -> None:
    code = "import sys\nfrom timewell.cli import main\nassert main(sys.argv[1:]) == 1"
    words = ("load", str(ROOT / "examples" / "purchases.csv"), "--entity", "user", "--url", server.url)
    assert alone.run(code, tmp_path, *words) == "timewell: this needs pyarrow, which is not installed\n"


def test_the_package_is_the_same_that_comes_with_the_server() -> None:
    whole = {*WHOLE["dependencies"], *(one for extra in WHOLE["optional-dependencies"].values() for one in extra)}
    alone = {*ALONE["dependencies"], *(one for extra in ALONE["optional-dependencies"].values() for one in extra)}
    assert alone <= whole
    assert ALONE["version"] == WHOLE["version"]
    assert ALONE["requires-python"] == WHOLE["requires-python"]
