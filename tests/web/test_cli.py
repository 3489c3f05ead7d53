"""The command: what it says of itself, and how it fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.settings import Settings
from tests.live import ROOT, LiveServer
from web.process import where

MODULE = [sys.executable, "-m", "web"]
SCRIPT = [str(Path(sys.executable).parent / "timewell")]
SETTINGS = [field.name for field in msgspec.structs.fields(Settings)]


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    inherited = {name: value for name, value in os.environ.items() if name.lower() not in SETTINGS}
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**inherited, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("command", [[*MODULE, "--help"], [*SCRIPT, "serve", "--help"]])
def test_the_help_lists_every_setting_with_its_default(command: list[str]) -> None:
    done = run(command)
    assert done.returncode == 0
    words = " ".join(done.stdout.split())
    for field in msgspec.structs.fields(Settings):
        shown = str(field.default).lower() if isinstance(field.default, bool) else field.default
        about = words.rpartition(f" --{field.name.replace('_', '-')} ")[2].partition(" --")[0]
        assert f"(default: {shown})" in about, field.name


def test_the_help_of_the_script_names_its_commands() -> None:
    done = run([*SCRIPT, "--help"])
    assert done.returncode == 0
    assert re.search(r"^ +serve +\S", done.stdout, re.MULTILINE)


def test_the_version_is_that_of_the_package() -> None:
    assert run([*SCRIPT, "--version"]).stdout == f"timewell {version('timewell')}\n"


@pytest.mark.parametrize("arguments", [[], ["bake"], ["serve", "--colour", "red"]])
def test_a_command_line_that_is_not_understood_exits_with_2(arguments: list[str]) -> None:
    done = run([*SCRIPT, *arguments])
    assert done.returncode == 2
    assert "usage: timewell" in done.stderr


BAD = [("SHARDS", "0"), ("MAX_BODY_BYTES", "1kb")]
"""Two for the way from the environment to the message; what each setting takes is tested without a process."""


def _refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_setting_is_named_with_its_value(name: str, value: str) -> None:
    _refused(run(MODULE, **{name: value}), name, value)


def test_a_setting_that_is_one_of_some_words_names_them() -> None:
    _refused(run(MODULE, LOG_LEVEL="loud"), "LOG_LEVEL", "'loud'", "debug, info, warning, error")
    _refused(run(MODULE, ENABLE_MONITORING="maybe"), "ENABLE_MONITORING", "'maybe'", "true, false")


def test_every_flag_shows_what_it_takes() -> None:
    words = " ".join(run([*SCRIPT, "serve", "--help"]).stdout.split())
    for flag in ("--agreement-sample SHARE", "--checkpoint-seconds SECONDS", "--max-body-bytes BYTES", "--port N"):
        assert f"{flag} " in words


def test_a_bad_flag_is_named_with_its_value() -> None:
    _refused(run([*SCRIPT, "serve", "--shards", "many"]), "SHARDS", "many")


def test_a_flag_overrides_the_environment() -> None:
    done = run([*MODULE, "--shards", "none"], SHARDS="1")
    _refused(done, "SHARDS", "none")


def test_a_good_flag_overrides_a_bad_environment(tmp_path: Path) -> None:
    flags = ["--port", "0", "--shards", "1", "--data-dir", str(tmp_path / "flag")]
    environment = {**os.environ, "PORT": "abc", "SHARDS": "0", "DATA_DIR": str(tmp_path / "environment")}
    with subprocess.Popen(
        [*MODULE, *flags], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        said = next((line for line in child.stderr if "serving on" in line or not line), "")
        child.terminate()
        child.communicate(timeout=30)
    assert f"embedded in {tmp_path / 'flag'}" in said
    assert child.returncode == 0
    assert not (tmp_path / "environment").exists()


def test_a_data_directory_that_is_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory")
    _refused(run(MODULE, PORT="0", DATA_DIR=str(file)), str(file))


def test_a_port_in_use_is_refused_in_one_line(shared_server: LiveServer, tmp_path: Path) -> None:
    port = str(shared_server.http.base_url.port)
    done = run(MODULE, PORT=port, DATA_DIR=str(tmp_path / "data"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert port in done.stderr


def test_a_data_directory_in_use_is_refused_in_one_line(shared_server: LiveServer) -> None:
    done = run(MODULE, PORT="0", DATA_DIR=str(shared_server.data_dir))
    _refused(done, str(shared_server.data_dir), str(shared_server.pid))


@pytest.mark.parametrize(
    ("kind", "url", "said"),
    [
        ("postgresql", "postgresql://me:secret@a:1,b/features", "postgresql at a:1,b"),
        ("postgresql", "host=a password=secret", "postgresql"),
        ("redis", "rediss://:secret@a:2/0", "redis at a:2"),
    ],
)
def test_where_values_are_kept_is_said_without_the_password(kind: Any, url: str, said: str) -> None:
    assert where(Settings(storage_type=kind, storage_url=url)) == said


def test_memory_storage_leaves_no_files(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "data", STORAGE_TYPE="memory") as live:
        live.register("f")
        live.write(("user.f.v1", "u", 1, "2025-11-07T10:00:00Z"))
        assert live.serve(["u"], ["f"])[0]["features"] == {"f": 1}
        assert live.stop() == 0
    assert not (tmp_path / "data").exists()
