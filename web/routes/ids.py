"""The ids of the entities of a type."""

from __future__ import annotations

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from quart import Response

from actors.errors import InvalidInput
from actors.ingest.entity_ids import check_entity_id
from actors.settings import DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS
from actors.storage.listed import IDS, IdsPage
from timewell.wire import EntityIdsAnswer
from web.answers.pages import from_cursor, to_cursor
from web.bodies.requests import Query, said
from web.chapter import PAGE, Chapter, Service

_BETWEEN = pa.scalar('","', IDS)
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
    return said(await service.router.ids(name, prefix, after, limit, encoded))


def encoded(page: IdsPage) -> bytes:
    """A page as JSON, made by Arrow, without the GIL: serving need not wait for ten thousand ids."""
    ids, after = b"", b""
    if len(page.ids):
        # Ids have no control characters, so these two are all that JSON escapes.
        escaped = pc.replace_substring(pc.replace_substring(page.ids, "\\", r"\\"), '"', r"\"")
        whole = pa.ListArray.from_arrays(pa.array([0, len(escaped)], pa.int32()), escaped)
        ids = b'"' + pc.binary_join(whole, _BETWEEN)[0].as_buffer().to_pybytes() + b'"'
    if page.after is not None:
        after = b',"nextCursor":' + msgspec.json.encode(to_cursor(page.after))
    return b'{"ids":[' + ids + b"]" + after + b"}"
