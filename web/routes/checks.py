"""Quality checks: put, list, delete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from quart import Response

from actors.domain import Feature, check_name
from actors.errors import Conflict
from actors.monitoring.checks import Check, make_check
from actors.monitoring.watch import Result
from actors.router import Router
from actors.timestamps import format_timestamp
from actors.types.type import plain
from timewell import monitoring_wire as schema
from web.answers.listing import listed
from web.bodies.requests import Query, encode, json_body, no_content
from web.chapter import Chapter, Service

chapter = Chapter("Monitoring")


@chapter.route(
    "POST /features/<reference>/checks",
    "Add a quality check, or replace the one with this id.",
    takes=schema.PutCheck,
    gives={201: schema.CheckAnswer},
    fails=(400, 404, 409, 413, 415, 503),
)
async def put_check(service: Service, reference: str) -> Response:
    await service.router.watching()
    feature = service.router.registry.stored(reference)
    check = await _put(service.router, feature, await json_body(schema.PutCheck))
    made = list(_answers([check], await service.router.monitoring.watch.results([check])))
    if not made:
        raise Conflict(f"check {check.id!r} of {feature.id!r} was changed again while it was put")
    return encode(made[0], 201)


@chapter.route(
    "GET /features/<reference>/checks",
    "The checks of a feature and their current results.",
    gives={200: schema.ChecksAnswer},
    fails=(404, 409, 413, 503),
)
async def checks_of(service: Service, reference: str) -> Response:
    Query(())
    watch = (await service.router.watching()).watch
    checks = watch.checks(service.router.registry.resolve(reference))
    return await listed({"checks": _answers(checks, await watch.results(checks))})


@chapter.route(
    "DELETE /features/<reference>/checks/<id_>",
    "Delete a check, and its alert unless that is resolved.",
    gives={204: None},
    fails=(404, 409, 503),
)
async def delete_check(service: Service, reference: str, id_: str) -> Response:
    watch = (await service.router.watching()).watch
    await watch.delete_check(service.router.registry.resolve(reference), id_)
    return no_content()


@chapter.route(
    "GET /checks",
    "All checks and their current results.",
    gives={200: schema.ChecksAnswer},
    fails=(404, 413, 503),
)
async def checks(service: Service) -> Response:
    Query(())
    watch = (await service.router.watching()).watch
    return await listed({"checks": _answers(watch.checks(), await watch.every_result())})


async def _put(router: Router, feature: Feature, asked: schema.PutCheck) -> Check:
    """Put the check under the id asked for, or under a free one, even if several processes put one at once."""
    while True:
        check = make_check(feature, _check_id(router, feature, asked), asked.check_type, asked.config)
        try:
            await router.monitoring.watch.put_check(check, new=not isinstance(asked.id, str))
            return check
        except Conflict:
            if isinstance(asked.id, str):
                raise
            await router.watching()  # learns of the checks that other processes have put


def _check_id(router: Router, feature: Feature, asked: schema.PutCheck) -> str:
    """The id asked for, or the check type with the first free number. Raises Conflict, InvalidInput."""
    taken = {check.id: check for check in router.monitoring.watch.checks(feature)}
    if isinstance(asked.id, str):
        check_name(asked.id, "id")
        if asked.id in taken and taken[asked.id].check_type != asked.check_type:
            raise Conflict(f"check {asked.id!r} of {feature.id!r} is of type {taken[asked.id].check_type}")
        return asked.id
    named = router.monitoring.watch.taken(feature)
    numbered = (f"{asked.check_type}-{number}" for number in range(1, len(named) + 2))
    return next(id_ for id_ in numbered if id_ not in named)


def _answers(checks: Sequence[Check], results: Mapping[str, Result]) -> Iterator[schema.CheckAnswer]:
    for check in checks:
        result = results.get(check.key)
        if result is not None:
            yield schema.CheckAnswer(
                check.id,
                check.feature_id,
                check.check_type,
                check.config,
                result.finding.status,
                plain(result.finding.observed),
                result.finding.message,
                format_timestamp(result.run),
            )
