"""A virtual environment for a peer whose dependencies conflict with ours, built once in a cache directory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import trio

from loadtest.compare.work import Unavailable

BUILD_SECONDS = 1_800.0
REQUIREMENTS: dict[str, tuple[str, ...]] = {"feast": ("feast[postgres,redis]==0.67.0",)}
"""Exact versions, so that figures of different days are comparable."""
_VERSIONS = (
    "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
)


def cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "timewell-peers"


class Environment:
    """The virtual environment of one peer. Built on first use of `python`."""

    def __init__(self, name: str, below: Path) -> None:
        self.name, self.directory = name, below / name

    @property
    def executable(self) -> Path:
        """The path of its interpreter."""
        return self.directory / "bin" / "python"

    @property
    def built(self) -> bool:
        """Whether its packages are the wanted versions."""
        try:
            return self._stamp.read_text() == self._wanted
        except OSError:
            return False

    @property
    def _stamp(self) -> Path:
        return self.directory / "requirements.txt"

    @property
    def _wanted(self) -> str:
        return "\n".join((f"# {sys.version}", *REQUIREMENTS[self.name], ""))

    def commands(self) -> list[list[str]]:
        pip = [str(self.executable), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        return [[sys.executable, "-m", "venv", "--clear", str(self.directory)], [*pip, *REQUIREMENTS[self.name]]]

    async def python(self) -> Path:
        """The interpreter of the environment, which is built if it is missing or has other versions.

        Raises Unavailable with the last output of the command that failed.
        """
        if not self.built:
            print(
                f"  building {self.directory} ({', '.join(REQUIREMENTS[self.name])})", file=sys.stderr, flush=True
            )
            for command in self.commands():
                await _run(command)
            self._stamp.write_text(self._wanted)
        return self.executable

    async def versions(self) -> dict[str, str]:
        """The version of each installed package, by lower-case name."""
        said = await _run([str(await self.python()), "-c", _VERSIONS])
        return {name.lower(): version for name, version in msgspec.json.decode(said, type=dict[str, str]).items()}


async def _run(command: Sequence[str]) -> bytes:
    """What a command printed. Raises Unavailable if it fails or takes too long."""
    with trio.move_on_after(BUILD_SECONDS):
        done = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False, stdin=subprocess.DEVNULL
        )
        if done.returncode == 0:
            return bytes(done.stdout)
        words = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise Unavailable(f"{' '.join(command)} failed: {words[-1_000:]}")
    raise Unavailable(f"{' '.join(command)} took more than {BUILD_SECONDS:g} s")
