"""The data directory: used by one process at a time, and readable only by its user.

The lock is on the directory itself, so that there is no lock file that could be removed.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from actors.errors import StartupError

PRIVATE_MASK = 0o077
"""The umask that denies group and others all access."""
_LOCKS = Path("/proc/locks")


class DataDirectory:
    """A data directory that can be locked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: int | None = None

    def take(self) -> None:
        """Create the directory if necessary, and lock it. Raises StartupError."""
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
        """Lock the existing directory. Raises StartupError if another process has locked it, OSError."""
        self._held = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = self._owner()
            self.release()
            raise StartupError(f"the data directory {self._path} is in use by {owner}") from None

    def _owner(self) -> str:
        """Which process has locked the directory, if the system tells."""
        assert self._held is not None
        inode = str(os.fstat(self._held).st_ino)
        with suppress(OSError):
            for line in _LOCKS.read_text().splitlines():
                kind, _, _, process, file = line.split()[1:6]
                if kind == "FLOCK" and file.rpartition(":")[2] == inode and process.isdecimal():
                    return f"process {process}"
        return "another process"

    def release(self) -> None:
        """Unlock the directory."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


def create_privately() -> None:
    """Make all files that this process and its libraries create from now on accessible only to its user."""
    os.umask(PRIVATE_MASK)
