"""The data directory: one process's at a time, and only its user's to read.

The lock is on the directory itself, so that no file can be removed from under it.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from actors.errors import StartupError

PRIVATE_MASK = 0o077
"""Of what is created nothing is the group's or others'."""
_LOCKS = Path("/proc/locks")


class DataDirectory:
    """A directory to be taken and given back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: int | None = None

    def take(self) -> None:
        """Make it where there is none, and have it for this process. Raises StartupError."""
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lock()
        except FileExistsError:
            raise StartupError(f"the data directory {self._path} is a file") from None
        except OSError as error:
            self.release()
            raise StartupError(f"the data directory {self._path} cannot be written: {error.strerror}") from error
        if not os.access(self._path, os.R_OK | os.W_OK | os.X_OK):
            self.release()
            raise StartupError(f"the data directory {self._path} cannot be written: permission denied")

    def lock(self) -> None:
        """Have it for this process, as it is. Raises StartupError where another one does, OSError."""
        self._held = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = self._owner()
            self.release()
            raise StartupError(f"the data directory {self._path} is in use by {owner}") from None

    def _owner(self) -> str:
        """Who has it, as far as the system tells."""
        assert self._held is not None
        inode = str(os.fstat(self._held).st_ino)
        with suppress(OSError):
            for line in _LOCKS.read_text().splitlines():
                kind, _, _, process, file = line.split()[1:6]
                if kind == "FLOCK" and file.rpartition(":")[2] == inode and process.isdecimal():
                    return f"process {process}"
        return "another process"

    def release(self) -> None:
        """Give it back."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


def create_privately() -> None:
    """From now on what this process creates is its user's alone, also what libraries create for it."""
    os.umask(PRIVATE_MASK)
