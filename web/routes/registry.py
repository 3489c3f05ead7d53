"""Registering features and groups, finding and deleting them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from quart import Blueprint, Response

from actors.domain import Feature, parse_reference
from actors.errors import NotFound
from actors.registry import FeatureRegistry
from actors.router import Router
from actors.settings import DEFAULT_PAGE_ROWS, LISTED_BYTES_PER_TURN, MAX_PAGE_ROWS, PAGE_BYTES
from actors.turns import Steps, by_turns
from web.answers.listing import listed
from web.answers.pages import from_cursor, to_cursor
from web.bodies.requests import Query, encode, json_body, no_content
from web.schema import (
    PutGroup,
    RegisterFeature,
    feature_answer,
    group_answer,
)

FEATURES_PER_TURN = 100
"""Encoded for a page before others have their turn."""


def blueprint(router: Router) -> Blueprint:
    """The chapter "Registry"."""
    routes = Blueprint("registry", __name__)

    @routes.post("/features/register")
    async def register_feature() -> Response:
        feature, new = await router.register((await json_body(RegisterFeature)).change())
        return encode(feature_answer(feature), 201 if new else 200)

    @routes.get("/features")
    async def list_features() -> Response:
        query = Query(("entity", "tags", "match", "group", "q", "limit", "cursor"))
        found = await by_turns(_matching(await router.registered(), query))
        page, more = await by_turns(_page(found, query))
        return await listed({"features": page}, {} if more is None else {"nextCursor": more})

    @routes.get("/features/<reference>")
    async def get_feature(reference: str) -> Response:
        return encode(feature_answer((await router.registered()).resolve(reference)))

    @routes.get("/features/<reference>/versions")
    async def list_versions(reference: str) -> Response:
        versions = _versions(await router.registered(), reference)
        return await listed({"versions": map(feature_answer, versions)})

    @routes.delete("/features/<reference>")
    async def delete_feature(reference: str) -> Response:
        await router.delete_feature(reference)
        return no_content()

    @routes.post("/groups")
    async def put_group() -> Response:
        group, new = await router.put_group((await json_body(PutGroup)).group())
        return encode(group_answer(group), 201 if new else 200)

    @routes.get("/groups")
    async def list_groups() -> Response:
        groups = sorted((await router.registered()).groups.values(), key=lambda group: group.name)
        return await listed({"groups": map(group_answer, groups)})

    @routes.get("/groups/<name>")
    async def get_group(name: str) -> Response:
        return encode(group_answer((await router.registered()).group(name)))

    @routes.delete("/groups/<name>")
    async def delete_group(name: str) -> Response:
        await router.delete_group(name)
        return no_content()

    return routes


def _versions(registry: FeatureRegistry, reference: str) -> Sequence[Feature]:
    parts = parse_reference(reference)
    if parts is None or parts.version is not None:
        raise NotFound(f"unknown feature {reference!r}; versions are listed for entity.name")
    feature = registry.resolve(reference)
    return registry.versions(feature.entity, feature.name)


def _matching(registry: FeatureRegistry, query: Query) -> Steps[list[Feature]]:
    """The features that pass every filter given, sorted by id."""
    features = sorted(registry.features.values(), key=lambda feature: feature.id)
    entity, group, words = query.text("entity"), query.text("group"), query.text("q")
    tags = {tag for tag in (query.text("tags") or "").split(",") if tag}
    match_all = query.choice("match", ("any", "all"), "any") == "all"
    if entity is not None:
        features = [feature for feature in features if feature.entity == entity]
    if group is not None:
        members = registry.members(group)
        features = [feature for feature in features if feature.id in members]
    if tags:
        features = [f for f in features if (tags <= set(f.tags) if match_all else tags & set(f.tags))]
    if words is not None:
        features = yield from _with_words(features, words.lower())
    return features


def _with_words(features: Sequence[Feature], words: str) -> Steps[list[Feature]]:
    found, done = list[Feature](), 0
    for feature in features:
        text = _searchable(feature)
        if words in text:
            found.append(feature)
        done += len(text)
        if done > LISTED_BYTES_PER_TURN:
            yield
            done = 0
    return found


def _searchable(feature: Feature) -> str:
    return "\n".join((feature.id, feature.description, *feature.tags)).lower()


def _page(features: Sequence[Feature], query: Query) -> Steps[tuple[list[msgspec.Raw], str | None]]:
    """The answers of a page, and where the next one begins."""
    cursor = query.text("cursor")
    if cursor is not None:
        after = from_cursor(cursor)
        features = [feature for feature in features if feature.id > after]
    limit = query.number("limit", DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS)
    page = yield from _within_bytes(features[:limit])
    return page, to_cursor(features[len(page) - 1].id) if len(features) > len(page) else None


def _within_bytes(features: Sequence[Feature]) -> Steps[list[msgspec.Raw]]:
    """As many of them as a page may hold, at least one: their texts may be long."""
    page, size = list[msgspec.Raw](), 0
    for feature in features:
        answer = msgspec.json.encode(feature_answer(feature))
        size += len(answer)
        if page and size > PAGE_BYTES:
            break
        page.append(msgspec.Raw(answer))
        if len(page) % FEATURES_PER_TURN == 0:
            yield
    return page
