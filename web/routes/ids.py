"""The ids of the entities of a type."""

from __future__ import annotations

import msgspec
import trio
from quart import Response

from actors.errors import InvalidInput
from actors.ingest.entity_ids import check_entity_id
from actors.settings import DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS
from actors.storage.listed import IdsPage
from timewell.wire import EntityIdsAnswer
from web.answers.pages import from_cursor, to_cursor
from web.bodies.requests import Query, said
from web.chapter import PAGE, Chapter, Service

IDS_PER_TURN = 500
"""How many are encoded before other requests get a turn: some 30 microseconds."""

_LISTED = {"prefix": "ids that begin with this", **PAGE}

chapter = Chapter("Entities")


@chapter.route(
    "GET /entities/<name>/ids",
    "The ids that anything is known of, in the order of their code points: those of which there is an observation,"
    " a null included. A page may be short, even empty; the last one has no nextCursor.",
    query=_LISTED,
    gives={200: EntityIdsAnswer},
    fails=(400, 404, 503),
)
async def list_ids(service: Service, name: str) -> Response:
    query = Query(_LISTED)
    limit = query.number("limit", DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS)
    cursor = query.text("cursor")
    after, prefix = "" if cursor is None else from_cursor(cursor), query.text("prefix") or ""
    for field, given in (("cursor", after), ("prefix", prefix)):
        if given and (reason := check_entity_id(given)) is not None:
            raise InvalidInput.at(field, reason)
    return said(await _encoded(await service.router.ids(name, prefix, after, limit)))


async def _encoded(page: IdsPage) -> bytes:
    text = bytearray(b'{"ids":[')
    for start in range(0, len(page.ids), IDS_PER_TURN):
        text += b"," * (start > 0) + msgspec.json.encode(page.ids[start : start + IDS_PER_TURN])[1:-1]
        await trio.lowlevel.checkpoint()
    text += b"]"
    if page.after is not None:
        text += b',"nextCursor":' + msgspec.json.encode(to_cursor(page.after))
    return bytes(text + b"}")
