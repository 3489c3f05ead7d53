"""Features and groups: register, list, delete."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET
from quart import Response

from actors.derive.on_demand import REQUEST
from actors.domain import Feature, FeatureChange, Group, parse_reference
from actors.errors import InvalidInput, NotFound
from actors.registry import FeatureRegistry
from actors.settings import DEFAULT_PAGE_ROWS, LISTED_BYTES_PER_TURN, MAX_PAGE_ROWS, PAGE_BYTES
from actors.turns import Steps, by_turns
from timewell.wire import (
    FeatureAnswer,
    FeatureDetails,
    FeaturesAnswer,
    GroupAnswer,
    GroupsAnswer,
    PutGroup,
    RegisterFeature,
    UsedBy,
    VersionsAnswer,
)
from web.answers.listing import listed
from web.answers.pages import from_cursor, to_cursor
from web.answers.registered import feature_answer, feature_details, group_answer
from web.bodies.requests import Query, encode, json_body, no_content
from web.chapter import PAGE, Chapter, Service

FEATURES_PER_TURN = 100
"""How many are encoded before other requests get a turn."""

_LISTED = {
    "entity": "features of this entity type",
    "tags": "features with these tags, comma-separated",
    "match": "whether any (default) or all of the tags are needed",
    "group": "features in this group",
    "q": "features with this text in id, description or tags",
    **PAGE,
}

_DELETED = {
    "force": "true: even if groups, services or kept training sets read it; groups lose it, the others answer 404"
}

chapter = Chapter("Registry")


@chapter.route(
    "POST /features/register",
    "Register a feature, or update the one with this id.",
    takes=RegisterFeature,
    gives={200: FeatureAnswer, 201: FeatureAnswer},
    fails=(400, 404, 409, 413, 415, 503),
)
async def register_feature(service: Service) -> Response:
    feature, new = await service.router.register(asked_feature(await json_body(RegisterFeature)))
    return encode(feature_answer(feature), 201 if new else 200)


@chapter.route(
    "GET /features",
    "The registered features, sorted by id.",
    query=_LISTED,
    gives={200: FeaturesAnswer},
    fails=(400,),
)
async def list_features(service: Service) -> Response:
    query = Query(_LISTED)
    matching = await by_turns(_matching(await service.router.registered(), query))
    page, next_cursor = await by_turns(_page(matching, query))
    return await listed({"features": page}, {} if next_cursor is None else {"nextCursor": next_cursor})


@chapter.route(
    "GET /features/<reference>",
    "One feature, and what uses it.",
    gives={200: FeatureDetails},
    fails=(404, 409),
)
async def get_feature(service: Service, reference: str) -> Response:
    registry = await service.router.registered()
    feature = registry.resolve(reference)
    return encode(feature_details(feature, await _used_by(service, registry, feature)))


async def _used_by(service: Service, registry: FeatureRegistry, feature: Feature) -> UsedBy:
    checks = list[str]()
    if service.router.monitored:
        watch = (await service.router.watching()).watch
        checks = [check.id for check in watch.checks(feature)]
    groups = [group.name for group in registry.groups_with(feature.id)]
    services = [one.key for one in registry.catalogue.services_with(feature)]
    kept = [one.name for one in registry.catalogue.training_sets_with(feature)]
    return UsedBy(groups, services, registry.features_over(feature), checks, kept)


def asked_feature(asked: RegisterFeature, at: str = "") -> FeatureChange:
    """A feature as asked for. `at`: its place in the request. Raises InvalidInput for what goes only with an
    expression, or is needed without one."""
    fields = msgspec.structs.asdict(asked)
    if asked.expression is UNSET:
        for field, given in (("entity", asked.entity), ("valueType", asked.value_type)):
            if given is UNSET:
                raise InvalidInput.at(f"{at}{field}", "is required, unless an expression defines the feature")
        for field in ("features", "request"):
            if fields[field] is not UNSET:
                raise InvalidInput.at(f"{at}{field}", "makes no sense without an expression")
    if asked.entity is UNSET:
        fields["entity"] = REQUEST
    return FeatureChange(**fields)


@chapter.route(
    "POST /features/<reference>/promote",
    "Let `entity.name` mean this version of a feature, given by its id.",
    gives={200: FeatureAnswer},
    fails=(404, 503),
)
async def promote(service: Service, reference: str) -> Response:
    return encode(feature_answer(await service.router.promote(reference)))


@chapter.route(
    "GET /features/<reference>/versions",
    "All versions of entity.name, lowest first.",
    gives={200: VersionsAnswer},
    fails=(404, 409),
)
async def list_versions(service: Service, reference: str) -> Response:
    versions = _versions(await service.router.registered(), reference)
    return await listed({"versions": map(feature_answer, versions)})


@chapter.route(
    "DELETE /features/<reference>",
    "Delete a feature by its id, with its values.",
    query=_DELETED,
    gives={204: None},
    fails=(400, 404, 409, 503),
)
async def delete_feature(service: Service, reference: str) -> Response:
    await service.router.delete_feature(reference, Query(_DELETED).flag("force"))
    return no_content()


@chapter.route(
    "POST /groups",
    "Create or replace a group.",
    takes=PutGroup,
    gives={200: GroupAnswer, 201: GroupAnswer},
    fails=(400, 404, 409, 413, 415, 503),
)
async def put_group(service: Service) -> Response:
    asked = msgspec.structs.asdict(await json_body(PutGroup))
    group, new = await service.router.put_group(Group(created=0, updated=0, **asked))
    return encode(group_answer(group), 201 if new else 200)


@chapter.route("GET /groups", "The groups, sorted by name.", gives={200: GroupsAnswer}, fails=(400,))
async def list_groups(service: Service) -> Response:
    Query(())
    groups = sorted((await service.router.registered()).groups.values(), key=lambda group: group.name)
    return await listed({"groups": map(group_answer, groups)})


@chapter.route("GET /groups/<name>", "One group.", gives={200: GroupAnswer}, fails=(404,))
async def get_group(service: Service, name: str) -> Response:
    return encode(group_answer((await service.router.registered()).group(name)))


@chapter.route("DELETE /groups/<name>", "Delete a group; its features stay.", gives={204: None}, fails=(404, 503))
async def delete_group(service: Service, name: str) -> Response:
    await service.router.delete_group(name)
    return no_content()


def _versions(registry: FeatureRegistry, reference: str) -> Sequence[Feature]:
    parts = parse_reference(reference)
    if parts is None or parts.version is not None:
        raise NotFound(f"unknown feature {reference!r}; versions are listed for entity.name")
    return registry.versions(reference)


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
    """The encoded features of a page, and the cursor of the next page if there is one."""
    cursor = query.text("cursor")
    if cursor is not None:
        after = from_cursor(cursor)
        features = [feature for feature in features if feature.id > after]
    limit = query.number("limit", DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS)
    page = yield from _within_bytes(features[:limit])
    return page, to_cursor(features[len(page) - 1].id) if len(features) > len(page) else None


def _within_bytes(features: Sequence[Feature]) -> Steps[list[msgspec.Raw]]:
    """The encoded features that fit a page (PAGE_BYTES), at least one: descriptions may be long."""
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
