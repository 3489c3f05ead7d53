"""The methods of the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from timewell.calls import Asking, Request, Talk, get, path, query, route, send
from timewell.plain import EntityId, entity_text, listed
from timewell.times import Length, span
from timewell.wire import (
    EntityIdsAnswer,
    Erasure,
    FeatureAnswer,
    FeatureDetails,
    FeaturesAnswer,
    GroupAnswer,
    GroupsAnswer,
    UsedBy,
    ValueType,
    VersionsAnswer,
)

MOST_OF_A_PAGE = 10_000
LEFT_OUT: Any = UNSET


class RegistryRoutes(Asking):
    """Features and groups: register, list, delete."""

    @route
    def register(
        self,
        name: str,
        entity: str,
        value_type: ValueType,
        *,
        version: int = 1,
        description: str = LEFT_OUT,
        tags: Sequence[str] = LEFT_OUT,
        owner: str | None = LEFT_OUT,
        group: str | None = LEFT_OUT,
        schema: Mapping[str, Any] | None = LEFT_OUT,
        max_age: Length | None = LEFT_OUT,
        retention: Mapping[str, Any] | None = LEFT_OUT,
        promoted: bool = LEFT_OUT,
    ) -> Talk[FeatureAnswer]:
        """Register a feature, or update the one with this id (`entity.name.vN`).

        An update keeps what is left out. `schema` may have `{"nullable": False, "min": 0, "max": 1, "enum": [...],
        "pattern": "...", "maxLength": 20, "dimension": 64}`; a vector needs its dimension. Values older than
        `max_age` are served as None. `retention` is such as `{"values": 1000, "age": "90d"}`. Until a version with
        `promoted=False` is promoted, `entity.name` goes on meaning the one before.

        Returns the feature, with `.id`. Raises InvalidInput; Conflict if the id has another value type.

            client.register("purchases_7d", "user", "number", schema={"min": 0}, max_age=timedelta(days=7))
        """
        given = {
            "name": name,
            "entity": entity,
            "valueType": value_type,
            "version": version,
            "description": description,
            "tags": tags if tags is LEFT_OUT else listed(tags, "tags"),
            "owner": owner,
            "group": group,
            "schema": msgspec.to_builtins(schema) if isinstance(schema, msgspec.Struct) else schema,
            "maxAge": max_age if isinstance(max_age, UnsetType) else span(max_age, "maxAge"),
            "retention": msgspec.to_builtins(retention) if isinstance(retention, msgspec.Struct) else retention,
            "promoted": promoted,
        }
        body = {key: value for key, value in given.items() if value is not UNSET}
        return (yield from self._ask(send("POST", "/features/register", body), FeatureAnswer))

    @route
    def define(
        self,
        name: str,
        expression: str,
        *,
        entity: str = LEFT_OUT,
        features: Mapping[str, str] = LEFT_OUT,
        request: Mapping[str, ValueType] = LEFT_OUT,
        version: int = 1,
        description: str = LEFT_OUT,
        tags: Sequence[str] = LEFT_OUT,
        owner: str | None = LEFT_OUT,
        group: str | None = LEFT_OUT,
        promoted: bool = LEFT_OUT,
    ) -> Talk[FeatureAnswer]:
        """Register a feature that is computed when it is read; a changed expression is a new version.

        `features` maps names in the expression to features, `request` maps fields of the rows to value types. A
        reference such as `user.spend` may stand in the expression as it is. `entity`: under which entity type it
        is listed, `request` if left out.

        Returns the feature, with `.id`. Raises InvalidInput, which names the place in the expression; NotFound;
        Conflict if the id is defined otherwise.

            client.define("ratio", "amount / user.spend", entity="user", request={"amount": "number"})
        """
        given = {
            "name": name,
            "expression": expression,
            "entity": entity,
            "features": features,
            "request": request,
            "version": version,
            "description": description,
            "tags": tags if tags is LEFT_OUT else listed(tags, "tags"),
            "owner": owner,
            "group": group,
            "promoted": promoted,
        }
        body = {key: value for key, value in given.items() if value is not UNSET}
        return (yield from self._ask(send("POST", "/features/register", body), FeatureAnswer))

    @route
    def features(
        self,
        *,
        entity: str | None = None,
        tags: Sequence[str] | None = None,
        match: Literal["any", "all"] | None = None,
        group: str | None = None,
        q: str | None = None,
        limit: int | None = None,
    ) -> Talk[list[FeatureAnswer]]:
        """The registered features that pass every filter, sorted by id: all, or the first `limit`.

        `match`: whether any (default) or all of the tags are needed. `group`: features in this group. `q`: a text
        in id, description or tags. Raises InvalidInput.

            [feature.id for feature in client.features(entity="user", tags=["shop"])]
        """
        given = query(entity=entity, tags=listed(tags, "tags"), match=match, group=group, q=q)
        found: list[FeatureAnswer] = []
        cursor: str | None = None
        while limit is None or len(found) < limit:
            page = query(limit=page_limit(limit, len(found)), cursor=cursor)
            answer = yield from self._ask(Request("GET", "/features", {**given, **page}), FeaturesAnswer)
            found += answer.features
            cursor = answer.next_cursor
            if cursor is None:
                break
        return found

    @route
    def feature(self, reference: str) -> Talk[FeatureAnswer]:
        """One feature, by its id, by `entity.name` (highest promoted version) or by a bare name.

        Raises NotFound; Conflict if several entity types have the bare name.

            client.feature("user.purchases_7d").value_type
        """
        return (yield from self._ask(get(path("features", reference)), FeatureAnswer))

    @route
    def versions(self, reference: str) -> Talk[list[FeatureAnswer]]:
        """All versions of `entity.name`, lowest first. Raises NotFound."""
        answer = yield from self._ask(get(path("features", reference, "versions")), VersionsAnswer)
        return answer.versions

    @route
    def promote(self, feature_id: str) -> Talk[FeatureAnswer]:
        """Let `entity.name` mean this version of a feature, given by its full id. Raises NotFound."""
        return (yield from self._ask(send("POST", path("features", feature_id, "promote"), {}), FeatureAnswer))

    @route
    def used_by(self, reference: str) -> Talk[UsedBy]:
        """The groups, services and checks that use a feature. Raises what `feature` does."""
        return (yield from self._ask(get(path("features", reference)), FeatureDetails)).used_by

    @route
    def delete_feature(self, feature_id: str, *, force: bool = False) -> Talk[None]:
        """Delete a feature by its full id, with its values.

        Raises NotFound; Conflict if a group, a service, a kept training set or a computed feature reads it, unless
        `force`: groups lose it then, and the others cannot be read any more.
        """
        yield from self._delete(path("features", feature_id), query(force=force or None))

    @route
    def erase(self, entity: str, entity_id: EntityId) -> Talk[Erasure]:
        """Erase all data about an entity for good. Raises NotFound for an entity type without features.

        client.erase("user", "ada").deleted.observations
        """
        return (yield from self._ask(Request("DELETE", path("entities", entity, entity_text(entity_id))), Erasure))

    def _page_of_ids(
        self, entity: str, prefix: str | None, cursor: str | None, limit: int = MOST_OF_A_PAGE
    ) -> Talk[EntityIdsAnswer]:
        """A page of the ids of an entity type."""
        asked = get(path("entities", entity, "ids"), prefix=prefix, limit=limit, cursor=cursor)
        return (yield from self._ask(asked, EntityIdsAnswer))

    @route
    def put_group(
        self,
        name: str,
        entity: str,
        features: Sequence[str],
        *,
        description: str = "",
        tags: Sequence[str] = (),
    ) -> Talk[GroupAnswer]:
        """Create or replace a group: an ordered list of features of one entity type that are read together.

        Raises InvalidInput, NotFound (a feature), Conflict.

            client.put_group("checkout", "user", ["purchases_7d", "country"])
            client.serve(["ada"], group="checkout")
        """
        body = {
            "name": name,
            "entity": entity,
            "features": listed(features, "features"),
            "description": description,
            "tags": listed(tags, "tags"),
        }
        return (yield from self._ask(send("POST", "/groups", body), GroupAnswer))

    @route
    def groups(self) -> Talk[list[GroupAnswer]]:
        """The groups, sorted by name."""
        return (yield from self._ask(get("/groups"), GroupsAnswer)).groups

    @route
    def group(self, name: str) -> Talk[GroupAnswer]:
        """One group. Raises NotFound."""
        return (yield from self._ask(get(path("groups", name)), GroupAnswer))

    @route
    def delete_group(self, name: str) -> Talk[None]:
        """Delete a group; its features stay. Raises NotFound."""
        yield from self._delete(path("groups", name))


def page_limit(limit: int | None, found: int) -> int:
    """How many items to ask for on the next page."""
    return MOST_OF_A_PAGE if limit is None else min(MOST_OF_A_PAGE, limit - found)
