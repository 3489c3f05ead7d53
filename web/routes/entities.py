"""Entity types: declared, listed, deleted."""

from __future__ import annotations

import msgspec
from quart import Response

from actors.domain import EntityType
from actors.errors import NotFound
from actors.registry import FeatureRegistry
from timewell.wire import EntityTypeAnswer, EntityTypesAnswer, PutEntityType
from web.answers.listing import listed
from web.answers.registered import entity_type_answer
from web.bodies.requests import Query, encode, json_body, no_content
from web.chapter import Chapter, Service

chapter = Chapter("Entities")


@chapter.route(
    "POST /entities",
    "Declare an entity type, or update it.",
    takes=PutEntityType,
    gives={200: EntityTypeAnswer, 201: EntityTypeAnswer},
    fails=(400, 409, 413, 415, 503),
)
async def declare(service: Service) -> Response:
    asked = msgspec.structs.asdict(await json_body(PutEntityType))
    declared, new = await service.router.declare(EntityType(created=0, updated=0, **asked))
    return encode(_answer(service.router.registry, declared.name), 201 if new else 200)


@chapter.route(
    "GET /entities",
    "The entity types that are declared or that features are of, sorted by name.",
    gives={200: EntityTypesAnswer},
    fails=(400,),
)
async def list_entity_types(service: Service) -> Response:
    Query(())
    registry = await service.router.registered()
    types = sorted(registry.entity_types.items())
    return await listed(
        {"entities": (entity_type_answer(name, registry.catalogue, count) for name, count in types)}
    )


@chapter.route("GET /entities/<name>", "One entity type.", gives={200: EntityTypeAnswer}, fails=(404,))
async def get_entity_type(service: Service, name: str) -> Response:
    return encode(_answer(await service.router.registered(), name))


def _answer(registry: FeatureRegistry, name: str) -> EntityTypeAnswer:
    features = registry.entity_types.get(name)
    if features is None:
        raise NotFound(f"unknown entity type {name!r}")
    return entity_type_answer(name, registry.catalogue, features)


@chapter.route(
    "DELETE /entities/<name>",
    "Delete an entity type. It must have no features.",
    gives={204: None},
    fails=(404, 409, 503),
)
async def undeclare(service: Service, name: str) -> Response:
    await service.router.undeclare(name)
    return no_content()
