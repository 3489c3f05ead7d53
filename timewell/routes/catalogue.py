"""The methods of entity types and feature services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from timewell.calls import Asking, Talk, get, path, route, send
from timewell.plain import listed
from timewell.routes.parts import Entry, entries
from timewell.wire import EntityTypeAnswer, EntityTypesAnswer, RegistrationsAnswer, ServiceAnswer, ServicesAnswer


class CatalogueRoutes(Asking):
    """Entity types and services: make, list, delete; registering all kinds together."""

    @route
    def put_entity_type(
        self,
        name: str,
        keys: Sequence[str],
        *,
        description: str = "",
        tags: Sequence[str] = (),
        owner: str | None = None,
    ) -> Talk[EntityTypeAnswer]:
        """Declare an entity type, or update it. `keys`: the columns that identify an entity.

        A type that is not declared has one key, named like itself. Raises InvalidInput; Conflict for other keys
        than it has, once features are of it.

            client.put_entity_type("user_merchant", ["user", "merchant"])
        """
        body = {
            "name": name,
            "keys": listed(keys, "keys"),
            "description": description,
            "tags": listed(tags, "tags"),
            "owner": owner,
        }
        return (yield from self._ask(send("POST", "/entities", body), EntityTypeAnswer))

    @route
    def entity_types(self) -> Talk[list[EntityTypeAnswer]]:
        """The entity types that are declared or that features are of, sorted by name."""
        return (yield from self._ask(get("/entities"), EntityTypesAnswer)).entities

    @route
    def entity_type(self, name: str) -> Talk[EntityTypeAnswer]:
        """One entity type. Raises NotFound."""
        return (yield from self._ask(get(path("entities", name)), EntityTypeAnswer))

    @route
    def delete_entity_type(self, name: str) -> Talk[None]:
        """Delete an entity type. Raises NotFound, Conflict while features are of it."""
        yield from self._delete(path("entities", name))

    @route
    def put_service(
        self,
        name: str,
        features: Sequence[Entry],
        *,
        version: int = 1,
        description: str = "",
        tags: Sequence[str] = (),
        owner: str | None = None,
    ) -> Talk[ServiceAnswer]:
        """Make a version of a service: the ordered features that a model reads, of any entity types, pinned by id.

        A feature is a reference, or `{"ref": ..., "key": ..., "as": ...}`: `key` names the field of a row that
        holds the entity id, `as` the column. Raises InvalidInput, NotFound (a feature); Conflict if the version
        has other features.

            client.put_service("fraud", ["user.spend", {"ref": "user.age", "key": "payee", "as": "payee_age"}])
        """
        body = {
            "name": name,
            "version": version,
            "features": entries(features),
            "description": description,
            "tags": listed(tags, "tags"),
            "owner": owner,
        }
        return (yield from self._ask(send("POST", "/services", body), ServiceAnswer))

    @route
    def register_together(
        self,
        *,
        entities: Sequence[Mapping[str, Any]] = (),
        features: Sequence[Mapping[str, Any]] = (),
        groups: Sequence[Mapping[str, Any]] = (),
        services: Sequence[Mapping[str, Any]] = (),
        dry_run: bool = False,
    ) -> Talk[RegistrationsAnswer]:
        """Register what may refer to each other, all or nothing. Each item has the fields of its own route.

        A feature keeps what is left out. Returns an outcome for each: `.id`, `.outcome` (created, updated or
        unchanged) and `.changes`, which with `dry_run` are only told. Raises InvalidInput, NotFound, Conflict with
        all that is wrong in `.errors`, whose `field` is such as `services[0].features[2]`.

            client.register_together(
                features=[{"name": "spend", "entity": "user", "valueType": "number"}],
                services=[{"name": "fraud", "features": ["user.spend"]}],
            )
        """
        given = {"entities": entities, "features": features, "groups": groups, "services": services}
        body = {kind: listed(items, kind) for kind, items in given.items()}
        request = send("POST", "/registrations", body, query={"dryRun": "true"} if dry_run else {})
        return (yield from self._ask(request, RegistrationsAnswer))

    @route
    def services(self) -> Talk[list[ServiceAnswer]]:
        """All versions of all services, sorted by name and version."""
        return (yield from self._ask(get("/services"), ServicesAnswer)).services

    @route
    def service(self, reference: str) -> Talk[ServiceAnswer]:
        """One service, by `name.vN`, or by `name` for its highest version. Raises NotFound."""
        return (yield from self._ask(get(path("services", reference)), ServiceAnswer))

    @route
    def delete_service(self, reference: str) -> Talk[None]:
        """Delete one version of a service, `name.vN`. Raises NotFound."""
        yield from self._delete(path("services", reference))
