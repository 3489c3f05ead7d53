"""Writing values: one, or a batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from quart import Response, request

from actors.errors import InvalidInput
from actors.ingest.overwriting import counting
from actors.ingest.sent import resolve_version
from actors.repeats import Repeated
from actors.router import Router
from actors.settings import Settings
from actors.storage.protocol import Stale
from actors.turns import by_turns
from timewell.wire import Observation, Observations, Written
from web.answers.lanes import ARROW_TYPE, NDJSON_TYPE
from web.bodies.bulk import OF_TABLES, write_lines, write_table
from web.bodies.items import LONGEST_ITEM_BYTES
from web.bodies.requests import Query, decode, json_bytes, said
from web.bodies.writing_rows import judge_batch, refuse, to_sent, written
from web.chapter import Chapter, Service

MOST_KEY_CHARACTERS = 255
REPLAYED = "idempotent-replayed"
"""The header of an answer that repeats an earlier one, since its idempotency key had been used."""

_KEY = {
    "Idempotency-Key": "a request that repeats a key within 24 hours writes nothing, whatever its body, and gets"
    " the first one's answer with the header Idempotent-Replayed: true"
}

chapter = Chapter("Writing")


@chapter.route(
    "POST /features/write",
    "Write one value. The answer comes once it is on stable storage.",
    takes=Observation,
    headers=_KEY,
    gives={200: Written},
    fails=(400, 404, 409, 413, 415, 503),
)
async def write(service: Service) -> Response:
    key = _idempotency_key("write")

    async def fresh() -> bytes:
        return await write_one(service.router, await json_bytes(), key)

    return _said(await once(service.router, key, fresh))


@chapter.route(
    "POST /features/write-batch",
    "Write many values, all or none. `overwritten`, if present: how many values were overwritten by a later value"
    " of this batch with the same feature, entity and timestamp.",
    takes=Observations,
    takes_also=(NDJSON_TYPE, ARROW_TYPE),
    query=OF_TABLES,
    headers=_KEY,
    gives={200: Written},
    fails=(400, 413, 415, 503),
)
async def write_batch(service: Service) -> Response:
    router, settings, _ = service
    key = _idempotency_key("write-batch")

    async def fresh() -> bytes:
        kind = request.mimetype
        partial = Query(OF_TABLES if kind == ARROW_TYPE else ("partial",)).flag("partial")
        if kind == NDJSON_TYPE:
            return await write_lines(router, partial, key)
        if kind == ARROW_TYPE:
            return await write_table(router, settings, partial, key)
        return await write_many(router, settings, await json_bytes((NDJSON_TYPE, ARROW_TYPE)), key, partial)

    return _said(await once(router, key, fresh))


async def once(router: Router, key: str | None, write: Callable[[], Awaitable[bytes]]) -> bytes:
    """The earlier answer to a write with this idempotency key, else the answer of `write`."""
    if key is None:
        return await write()
    return await router.repeats.once(key, write)


def _said(answer: bytes) -> Response:
    response = said(answer)
    if isinstance(answer, Repeated):
        response.headers[REPLAYED] = "true"
    return response


async def write_one(router: Router, body: bytes | bytearray, key: str | None = None) -> bytes:
    """`POST /features/write`, from the body to the answer."""
    if len(body) > LONGEST_ITEM_BYTES:  # it would be decoded in one go, holding others up
        raise InvalidInput(f"the body is longer than {LONGEST_ITEM_BYTES} bytes, which no value is")
    observation = decode(body, Observation)

    async def judge_and_write(judged: int | None) -> bytes:
        resolve_version(router.registry, observation.feature_id, observation.version)
        ingested = await router.judge.rows(to_sent([observation]), len(body))
        refuse(ingested.faults)
        return await router.write(ingested, b'{"success":true}', key, judged)

    return await router.settled(judge_and_write)


async def write_many(
    router: Router, settings: Settings, body: bytes | bytearray, key: str | None = None, partial: bool = False
) -> bytes:
    """`POST /features/write-batch` with a JSON body, from the body to the answer."""

    async def judge_and_write(judged: int | None) -> bytes:
        ingested = await judge_batch(router, body, settings.max_batch_values)
        if ingested.faults and await router.overtaken(judged):
            raise Stale("another process has changed what is registered")
        if not partial:
            refuse(ingested.faults, "values", ingested.more)
        again = await by_turns(counting(ingested.batch))
        return await router.write(ingested, written(ingested, again), key, judged)

    return await router.settled(judge_and_write)


def _idempotency_key(route: str) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 0 < len(key) <= MOST_KEY_CHARACTERS:
        raise InvalidInput.at("Idempotency-Key", f"must have from 1 to {MOST_KEY_CHARACTERS} characters")
    return f"{route} {key}"
