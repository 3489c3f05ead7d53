"""Which entities a storage knows of: their ids, listed page by page in the order of their code points.

UTF-8 sorts like the code points, so Arrow, Redis and PostgreSQL (with its collation "C") agree with Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import pyarrow as pa

from actors.domain import Feature

IDS = pa.large_string()  # the texts of millions of ids may have more bytes than an int32 can count
_SURROGATES = range(0xD800, 0xE000)
_LAST_CODE_POINT = 0x10FFFF


class IdsQuestion(NamedTuple):
    """A query for the ids of an entity type that begin with `prefix` and come after `after`, at most `limit`.

    `features`: all registered features of the type. An id is known if there is an observation of one of them.
    """

    entity_type: str
    features: Sequence[Feature]
    prefix: str
    after: str
    limit: int

    @property
    def created(self) -> Mapping[str, int]:
        """When each feature was created, by id."""
        return {feature.id: feature.created for feature in self.features}


class IdsPage(NamedTuple):
    """Ids in order, an array of IDS. `after`: the last id that was looked at, if there may be more; else None.

    A page may be short, even empty, and not be the last, where the storage had to look at many ids to find few.
    """

    ids: pa.Array
    after: str | None


class KnownIds(Protocol):
    """Lists the ids of entities. Blocks; for a worker thread."""

    def page(self, asked: IdsQuestion) -> IdsPage:
        """The next ids, as of a moment during the call. Raises StorageDown, Damaged."""


class KeptIds(KnownIds, Protocol):
    """Keeps the ids in memory for further pages."""

    def let_go(self, unused_seconds: float) -> None:
        """Free what was kept for further pages, unless it was used within so many seconds."""


def end_of(prefix: str) -> str | None:
    """The first text after all texts that begin with `prefix`; None if no text comes after them."""
    for place in range(len(prefix) - 1, -1, -1):
        code_point = ord(prefix[place])
        if code_point < _LAST_CODE_POINT:
            following = code_point + 1
            return prefix[:place] + chr(_SURROGATES.stop if following in _SURROGATES else following)
    return None


def page_of(ids: Sequence[str], after: str | None) -> IdsPage:
    """A page of ids that are Python strings."""
    return IdsPage(pa.array(ids, IDS), after)
