"""The progress of a load, kept in a file so that a run after an interruption can continue.

The file is in the user's cache directory (`~/.cache/timewell/load`, or the platform's counterpart) and is removed
once the load is done. It has the number of rows that the service has confirmed and a digest of them. So a load
continues if later rows of the file were corrected, and is refused if earlier rows changed.
"""

from __future__ import annotations

import hashlib
import os
from uuid import uuid4

import msgspec
import pyarrow as pa
from platformdirs import user_cache_path

from timewell.arrow import to_stream
from timewell.wire import Written


class State(msgspec.Struct):
    """How many `rows` and `values` are on stable storage in the service, and the `digest` of these rows.

    `salt`: sets a restarted load apart from earlier ones. `skipped`: values that were missing and are not written.
    `loaded`: values that an earlier load had written. `overwritten`: values replaced by others of the same part.
    """

    rows: int = 0
    values: int = 0
    digest: str = ""
    salt: str = ""
    skipped: int = 0
    loaded: int = 0
    overwritten: int = 0

    def after(self, rows: int, digest: str, written: Written, skipped: int, repeated: bool) -> State:
        """The state after one more part is on stable storage."""
        values = written.count or 0
        return State(
            rows,
            self.values + values,
            digest,
            self.salt,
            self.skipped + skipped,
            self.loaded + (values if repeated else 0),
            self.overwritten + (written.overwritten or 0),
        )


class StateFile:
    """The file with the state of one load. `identity`: what sets this load apart: file, service, columns."""

    def __init__(self, *identity: object) -> None:
        name = hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:32]
        self.path = user_cache_path("timewell", appauthor=False) / "load" / f"{name}.json"

    def read(self) -> State:
        """The state that an earlier run left, else that of the beginning."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=State)
        except (FileNotFoundError, msgspec.DecodeError):
            return State()

    def restart(self) -> State:
        """Start over, with idempotency keys that no earlier load has used."""
        state = State(salt=uuid4().hex)
        self.write(state)
        return state

    def write(self, state: State) -> None:
        """Replace the file atomically."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = self.path.with_suffix(f".{os.getpid()}.new")
        new.touch(mode=0o600)
        new.write_bytes(msgspec.json.encode(state))
        new.replace(self.path)

    def remove(self) -> None:
        """Remove the file: the load is done."""
        self.path.unlink(missing_ok=True)


class Chain:
    """A running digest: of the seed, which says what the load does, and of each part in turn."""

    def __init__(self, *seed: object) -> None:
        self._digest = hashlib.sha256(msgspec.json.encode(seed)).hexdigest()

    def add(self, part: pa.Table) -> str:
        """Add a part; returns the digest up to its end."""
        running = hashlib.sha256(self._digest.encode())
        for name, column in zip(part.column_names, part.columns, strict=True):
            valid = column.is_valid().to_numpy().tobytes() if column.null_count else b""
            running.update(valid)
            running.update(to_stream(pa.table({name: column.drop_null()})))  # the bytes under nulls are undefined
        self._digest = running.hexdigest()
        return self._digest
