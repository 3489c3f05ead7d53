"""How far the load of a file came, kept while it is under way so that the next run goes on from there.

The state is a small file in the user's cache directory (`~/.cache/timewell/load`, or where the platform has it).
It is removed once the load is done. It names the rows that the service has confirmed and a digest of them: a file
whose later rows were mended goes on, one whose earlier rows changed does not.
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
    """`rows` are on stable storage in the service, with `values`. `salt` sets a load apart from earlier ones.

    `skipped` fields were empty and are not written; `loaded` of the values were written by an earlier load;
    `overwritten` ones were replaced by others of the same part.
    """

    rows: int = 0
    values: int = 0
    digest: str = ""
    salt: str = ""
    skipped: int = 0
    loaded: int = 0
    overwritten: int = 0

    def after(self, rows: int, digest: str, written: Written, skipped: int, repeated: bool) -> State:
        """Once one more part is on stable storage."""
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
    """The state of one load: of a file, to a service, as certain features."""

    def __init__(self, *identity: object) -> None:
        name = hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:32]
        self.path = user_cache_path("timewell", appauthor=False) / "load" / f"{name}.json"

    def read(self) -> State:
        """What an earlier run left, or the beginning."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=State)
        except (FileNotFoundError, msgspec.DecodeError):
            return State()

    def restart(self) -> State:
        """A beginning that shares no idempotency key with any load before."""
        state = State(salt=uuid4().hex)
        self.write(state)
        return state

    def write(self, state: State) -> None:
        """Replace it at once, whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = self.path.with_suffix(f".{os.getpid()}.new")
        new.touch(mode=0o600)
        new.write_bytes(msgspec.json.encode(state))
        new.replace(self.path)

    def remove(self) -> None:
        """The load is done."""
        self.path.unlink(missing_ok=True)


class Chain:
    """A digest of everything up to a row: of what the load is, and of each part in turn."""

    def __init__(self, *seed: object) -> None:
        self._digest = hashlib.sha256(msgspec.json.encode(seed)).hexdigest()

    def add(self, part: pa.Table) -> str:
        """The digest up to the end of this part."""
        running = hashlib.sha256(self._digest.encode())
        for name, column in zip(part.column_names, part.columns, strict=True):
            valid = column.is_valid().to_numpy().tobytes() if column.null_count else b""
            running.update(valid)
            running.update(to_stream(pa.table({name: column.drop_null()})))  # what lies under nulls is anything
        self._digest = running.hexdigest()
        return self._digest
