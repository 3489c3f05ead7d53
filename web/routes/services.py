"""Feature services: versioned lists of the features that models read."""

from __future__ import annotations

from quart import Response

from actors.domain import FeatureService
from timewell.wire import PutService, ServiceAnswer, ServicesAnswer
from web.answers.listing import listed
from web.answers.registered import service_answer
from web.asking import service_feature
from web.bodies.requests import Query, encode, json_body, no_content
from web.chapter import Chapter, Service

chapter = Chapter("Services")


@chapter.route(
    "POST /services",
    "Make a version of a service: an ordered list of features of any entity types, pinned by id.",
    takes=PutService,
    gives={200: ServiceAnswer, 201: ServiceAnswer},
    fails=(400, 404, 409, 413, 415, 503),
)
async def put_service(service: Service) -> Response:
    offered, new = await service.router.offer(asked_service(await json_body(PutService)))
    return encode(service_answer(offered), 201 if new else 200)


def asked_service(asked: PutService, place: str = "") -> FeatureService:
    """A service as it is asked for, whose features are references. `place`: put before fields at fault."""
    features = [service_feature(entry, f"{place}features[{at}]") for at, entry in enumerate(asked.features)]
    return FeatureService(
        name=asked.name,
        version=asked.version,
        features=tuple(features),
        created=0,
        updated=0,
        description=asked.description,
        tags=asked.tags,
        owner=asked.owner,
    )


@chapter.route(
    "GET /services",
    "All versions of all services, sorted by name and version.",
    gives={200: ServicesAnswer},
    fails=(400,),
)
async def list_services(service: Service) -> Response:
    Query(())
    services = (await service.router.registered()).catalogue.services.values()
    in_order = sorted(services, key=lambda one: (one.name, one.version))
    return await listed({"services": map(service_answer, in_order)})


@chapter.route(
    "GET /services/<reference>",
    "One service: name.vN, or a name for its highest version.",
    gives={200: ServiceAnswer},
    fails=(404,),
)
async def get_service(service: Service, reference: str) -> Response:
    return encode(service_answer((await service.router.registered()).catalogue.service(reference)))


@chapter.route(
    "DELETE /services/<reference>", "Delete a version of a service, name.vN.", gives={204: None}, fails=(404, 503)
)
async def delete_service(service: Service, reference: str) -> Response:
    await service.router.withdraw(reference)
    return no_content()
