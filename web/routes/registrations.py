"""Registering entity types, features, groups and services together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from quart import Response

from actors.derive.on_demand import in_order
from actors.domain import EntityType, Feature, Group
from actors.messages import Outcome, Registration
from actors.turns import Steps, by_turns
from timewell.wire import FieldChange, RegistrationOutcome, Registrations, RegistrationsAnswer
from web.answers.registered import service_answer
from web.bodies.requests import Query, encode, json_body
from web.chapter import Chapter, Service
from web.routes.registry import asked_feature
from web.routes.services import asked_service

TOLD_PER_TURN = 20
_QUERY = {"dryRun": "true: only tell what would become of it"}
_UNTOLD = ("created", "updated", "createdAt", "updatedAt")

chapter = Chapter("Registry")


@chapter.route(
    "POST /registrations",
    "Register entity types, features, groups and services that may refer to each other, all or nothing.",
    takes=Registrations,
    query=_QUERY,
    gives={200: RegistrationsAnswer},
    fails=(400, 404, 409, 413, 415, 503),
)
async def register_together(service: Service) -> Response:
    asked = await json_body(Registrations)
    dry_run = Query(_QUERY).flag("dryRun")
    registrations = await by_turns(_registrations(asked))
    outcomes = await service.router.register_together(registrations, dry_run)
    return encode(await by_turns(_answer(outcomes)))


def _answer(outcomes: Sequence[Outcome]) -> Steps[RegistrationsAnswer]:
    told: dict[str, list[RegistrationOutcome]] = {"feature": [], "group": [], "entity": [], "service": []}
    for done, outcome in enumerate(outcomes, 1):
        told[outcome.kind].append(_told(outcome))
        if done % TOLD_PER_TURN == 0:
            yield
    return RegistrationsAnswer(told["entity"], told["feature"], told["group"], told["service"])


def _registrations(asked: Registrations) -> Steps[list[Registration]]:
    """What is asked, in an order in which each comes after what it may refer to, in steps."""
    found = list[Registration]()
    for at, entity_type in enumerate(asked.entities):
        fields = msgspec.structs.asdict(entity_type)
        found.append(Registration(f"entities[{at}]", EntityType(created=0, updated=0, **fields)))
    places = [f"features[{at}]" for at in range(len(asked.features))]
    features = [
        (place, asked_feature(one, f"{place}.")) for place, one in zip(places, asked.features, strict=True)
    ]
    found += [Registration(*one) for one in (yield from in_order(features))]
    for at, group in enumerate(asked.groups):
        found.append(Registration(f"groups[{at}]", Group(created=0, updated=0, **msgspec.structs.asdict(group))))
    for at, service in enumerate(asked.services):
        found.append(Registration(f"services[{at}]", asked_service(service, f"services[{at}].")))
    return found


def _told(outcome: Outcome) -> RegistrationOutcome:
    if outcome.before is None:
        return RegistrationOutcome(outcome.key, "created")
    changes = [*_changes(_fields(outcome.before), _fields(outcome.after))]
    return RegistrationOutcome(outcome.key, "updated" if changes else "unchanged", changes)


def _fields(record: Any) -> dict[str, Any]:
    """The fields by which two states of one thing are compared, named as in the contract."""
    shown = service_answer(record) if not isinstance(record, Feature | Group | EntityType) else record
    fields: dict[str, Any] = msgspec.to_builtins(shown)
    return {_WORDS.get(name, name): value for name, value in fields.items() if name not in _UNTOLD}


def _changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[FieldChange]:
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield FieldChange(name, before.get(name), after.get(name))


_WORDS = {"max_age": "maxAge", "value_type": "valueType"}
