"""Registering features and groups, finding and deleting them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from quart import Blueprint, Response

from actors.domain import Feature, parse_reference
from actors.errors import NotFound
from actors.registry import FeatureRegistry
from actors.router import Router
from actors.settings import DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS, PAGE_BYTES
from web.pages import from_cursor, to_cursor
from web.requests import Query, encode, json_body, no_content
from web.schema import (
    FeatureAnswer,
    FeaturesAnswer,
    GroupsAnswer,
    PutGroup,
    RegisterFeature,
    VersionsAnswer,
    feature_answer,
    group_answer,
)


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
        return encode(_page(_matching(await router.registered(), query), query))

    @routes.get("/features/<reference>")
    async def get_feature(reference: str) -> Response:
        return encode(feature_answer((await router.registered()).resolve(reference)))

    @routes.get("/features/<reference>/versions")
    async def list_versions(reference: str) -> Response:
        versions = _versions(await router.registered(), reference)
        return encode(VersionsAnswer([feature_answer(version) for version in versions]))

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
        return encode(GroupsAnswer([group_answer(group) for group in groups]))

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


def _matching(registry: FeatureRegistry, query: Query) -> list[Feature]:
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
        features = [feature for feature in features if words.lower() in _searchable(feature)]
    return features


def _searchable(feature: Feature) -> str:
    return "\n".join((feature.id, feature.description, *feature.tags)).lower()


def _page(features: Sequence[Feature], query: Query) -> FeaturesAnswer:
    cursor = query.text("cursor")
    if cursor is not None:
        after = from_cursor(cursor)
        features = [feature for feature in features if feature.id > after]
    limit = query.number("limit", DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS)
    page = _within_bytes(features[:limit])
    more = to_cursor(page[-1].id) if len(features) > len(page) else None
    return FeaturesAnswer(page, more)


def _within_bytes(features: Sequence[Feature]) -> list[FeatureAnswer]:
    """As many of them as a page may hold, at least one: their texts may be long."""
    page, size = list[FeatureAnswer](), 0
    for feature in features:
        answer = feature_answer(feature)
        size += len(msgspec.json.encode(answer))
        if page and size > PAGE_BYTES:
            break
        page.append(answer)
    return page
