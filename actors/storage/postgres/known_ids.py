"""Lists the ids of entities in PostgreSQL, by the index of the rows, which begins with the id.

The index has the rows of all entity types. A page reads it in order, in lots of rows; where a lot has few ids, as
entities have many rows, it leaps from each id to the next one. Either way it looks at a bounded number of ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.storage.listed import IdsPage, IdsQuestion, end_of, page_of
from actors.storage.postgres.link import Connection, Link

LOOKED_AT_MOST = 20_000
"""Ids that one page looks at, of whichever type: leaping over so many takes half a second."""
_ROWS_OF_A_LOT = 4
"""A lot has so many rows for each id that is wanted."""
ROWS_OF_A_LEAP = 100
"""So many rows are read in the time that one leap takes."""

_SHAPES = "SELECT number FROM shapes WHERE entity = %(type)s AND members && %(members)s::bigint[]"
_AFTER = "entity > %(after)s AND entity >= %(prefix)s AND entity < %(end)s"
_TO_THE_END = " AND entity < %(end)s"
_KNOWN = "EXISTS (SELECT 1 FROM rows WHERE entity = found.id AND shape = ANY(%(shapes)s::integer[]))"
_BY_ROWS = f"""
SELECT id, here OR {_KNOWN}, count FROM (
    SELECT entity AS id, bool_or(shape = ANY(%(shapes)s::integer[])) AS here, count(*) AS count FROM (
        SELECT entity, shape FROM rows WHERE {_AFTER} ORDER BY entity LIMIT %(rows)s
    ) AS r GROUP BY entity
) AS found ORDER BY id
"""
_NEXT = f"SELECT entity FROM rows WHERE {_AFTER} ORDER BY entity LIMIT 1"
_BY_LEAPS = f"""
WITH RECURSIVE found(id) AS (
    ({_NEXT}) UNION ALL SELECT ({_NEXT.replace("%(after)s", "found.id")}) FROM found WHERE found.id IS NOT NULL
) SELECT id, {_KNOWN}, 1 FROM found WHERE id IS NOT NULL LIMIT %(ids)s
"""


class PostgresIds:
    """See `KnownIds`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def page(self, asked: IdsQuestion) -> IdsPage:
        """The next ids, by one or two SQL queries for each lot."""
        return page_of(*self._link.read(lambda connection: _page(connection, asked)))


def _page(connection: Connection, asked: IdsQuestion) -> tuple[list[str], str | None]:
    """The ids of a page, and its `after`."""
    given: dict[str, Any] = {"type": asked.entity_type, "members": list(asked.created.values())}
    shapes = [number for (number,) in connection.execute(_SHAPES, given).fetchall()]
    given = {"shapes": shapes, "prefix": asked.prefix, "end": end_of(asked.prefix), "after": asked.after}
    if not shapes or "\0" in asked.prefix + asked.after:
        return [], None
    ids, looked_at = list[str](), 0
    while len(ids) < asked.limit and looked_at < LOOKED_AT_MOST:
        wanted = asked.limit - len(ids)
        found, whole = _lot(connection, given, wanted)
        looked_at += len(found)
        known = [id_ for id_, is_known in found if is_known]
        ids += known[:wanted]
        if len(known) > wanted:
            return ids, ids[-1]
        if not whole:
            return ids, None
        given["after"] = found[-1][0]
    return ids, given["after"]


def _lot(connection: Connection, given: Mapping[str, Any], wanted: int) -> tuple[list[tuple[str, bool]], bool]:
    """The next ids of any type, with whether each is known, and whether there may be more after them."""
    rows = _ROWS_OF_A_LOT * max(wanted, 100)
    found = connection.execute(_query(_BY_ROWS, given), {**given, "rows": rows}).fetchall()
    whole = sum(count for *_, count in found) == rows
    if whole and len(found) * ROWS_OF_A_LEAP < rows:
        given = {**given, "after": found[-1][0], "ids": wanted}
        leapt = connection.execute(_query(_BY_LEAPS, given), given).fetchall()
        found, whole = found + leapt, len(leapt) == wanted
    return [(id_, is_known) for id_, is_known, _ in found], whole


def _query(query: str, given: Mapping[str, Any]) -> bytes:
    """The query; without an end, if ids have none."""
    return (query if given["end"] is not None else query.replace(_TO_THE_END, "")).encode()
