"""Request bodies and answers, in the contract's form."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

ValueType = Literal["number", "integer", "string", "boolean", "timestamp", "vector", "json"]
Duration = int | float | str
"""Seconds, or a text such as "7d", "12h", "30m", "45s"."""
Timestamp = Annotated[
    str, Meta(description="RFC 3339, with an offset or Z, else in UTC; digits beyond the microsecond are cut")
]
Reference = Annotated[
    str, Meta(description="entity.name.vN, entity.name (highest promoted version) or a bare name")
]

DEFAULT_RETENTION_VALUES = 1_000
FIRST_INEXACT = 2.0**53
"""From here on, a float64 may stand for several integers."""


class ValueSchema(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """What a value must satisfy beyond its type.

    `pattern` is searched for, as in JSON Schema, not anchored. Its syntax is RE2's: no lookaround, no
    backreferences; `\\d \\w \\s \\b` match ASCII only (`\\p{L}` is any letter); `$` is the very end of the text.
    """

    nullable: bool = True
    min: int | float | str | None = None
    max: int | float | str | None = None
    enum: tuple[Any, ...] | None = None
    pattern: str | None = None
    max_length: int | None = None
    dimension: int | None = None


class Retention(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How much is kept per feature and entity.

    `values`: how many of the newest observations stay in memory. `age`: older observations are no longer served.
    """

    values: int = DEFAULT_RETENTION_VALUES
    age: Duration | None = None


class Body(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """A request body. Unknown fields are refused: most often they are typing errors."""


class RegisterFeature(Body):
    """`POST /features/register`. `promoted`: whether `entity.name` may mean this version, true for a new one.

    With `expression` the feature is computed when it is read. `features`: names in it that stand for features;
    `request`: names in it that stand for fields of the rows of a request, with their value types. `valueType` is
    then that of the expression, and `entity` may be left out; otherwise both are required.
    """

    name: str
    entity: str | UnsetType = UNSET
    value_type: ValueType | UnsetType = UNSET
    description: str | UnsetType = UNSET
    version: int = 1
    tags: tuple[str, ...] | UnsetType = UNSET
    owner: str | UnsetType | None = UNSET
    group: str | UnsetType | None = UNSET
    schema: ValueSchema | UnsetType | None = UNSET
    max_age: Duration | UnsetType | None = UNSET
    retention: Retention | UnsetType | None = UNSET
    promoted: bool | UnsetType = UNSET
    expression: str | UnsetType = UNSET
    features: dict[str, Reference] | UnsetType = UNSET
    request: dict[str, ValueType] | UnsetType = UNSET


class PutEntityType(Body):
    """`POST /entities`. `keys`: the columns that name an entity. An undeclared type has one: its own name.

    The id of a type with several keys is the compact JSON array of its parts in their order: `["u1","m9"]`.
    """

    name: str
    keys: tuple[str, ...]
    description: str = ""
    tags: tuple[str, ...] = ()
    owner: str | None = None


class FeatureEntry(Body):
    """A reference with options. Its column is named by `as`, by default `ref`.

    `key`: the field of a row that holds the entity id, or a mapping from keys of a composite type to fields.
    """

    ref: Reference
    key: str | dict[str, str] | None = None
    name: str | None = msgspec.field(default=None, name="as")


class PutService(Body):
    """`POST /services`: what a model reads, of any entity types. References become ids, which do not move."""

    name: str
    features: list[Reference | FeatureEntry]
    version: int = 1
    description: str = ""
    tags: tuple[str, ...] = ()
    owner: str | None = None


class PutGroup(Body):
    """`POST /groups`: features of one entity type, also by bare names. References become ids."""

    name: str
    entity: str
    features: tuple[Reference, ...]
    description: str = ""
    tags: tuple[str, ...] = ()


class Registrations(Body):
    """`POST /registrations`: what is to be registered, all or nothing, each as its own route takes it."""

    entities: list[PutEntityType] = []
    features: list[RegisterFeature] = []
    groups: list[PutGroup] = []
    services: list[PutService] = []


class Observation(Body, gc=False):  # a value from JSON holds no cycles; a batch has thousands
    """`POST /features/write`, and an item of `POST /features/write-batch`"""

    feature_id: Reference
    entity_id: str
    value: Any
    timestamp: Timestamp | None = None
    version: int | None = None


class Observations(Body):
    """`POST /features/write-batch`"""

    values: list[Observation]


class Serve(Body):
    """`POST /features/serve`: either `entityIds`, of one entity type, or `rows`.

    A row holds the keys of all entity types that the features need: texts, integers, or null where there is no
    such entity. Other fields are left alone.
    """

    entity_ids: list[str] | None = None
    rows: list[dict[str, Any]] | None = None
    features: list[Reference | FeatureEntry] | None = None
    group: str | None = None
    service: str | None = None
    as_of: Timestamp | None = None
    include_metadata: bool = False


Closed = Annotated[
    Literal["both", "right", "left", "neither"],
    Meta(
        description="which ends belong to the range; `right` makes it (start, end], like the window of a training"
        " set. Tumbling windows are (a, b] if the start does not belong to the range, else [a, b)"
    ),
]


class Historical(Body):
    """`POST /features/historical`"""

    entity_ids: list[str]
    start_time: Timestamp
    end_time: Timestamp
    features: list[Reference] | None = None
    group: str | None = None
    aggregation: str | dict[str, str] = "latest"
    window: Duration | None = None
    closed: Closed = "both"


class FeatureAnswer(msgspec.Struct, rename="camel", omit_defaults=True):
    """A registered feature."""

    id: str
    name: str
    description: str
    value_type: str
    entity: str
    version: int
    tags: tuple[str, ...]
    created_at: str
    updated_at: str
    owner: str | None = None
    group: str | None = None
    schema: ValueSchema | None = None
    max_age: Duration | None = None
    retention: Retention | None = None
    promoted: bool = True
    expression: str | None = None
    features: dict[str, str] | None = None
    request: dict[str, str] | None = None


class UsedBy(msgspec.Struct, omit_defaults=True):
    """What uses a feature: groups, services (`name.vN`), features defined over it, checks, kept training sets."""

    groups: list[str]
    services: list[str]
    features: list[str]
    checks: list[str]
    training_sets: list[str] = msgspec.field(name="trainingSets", default_factory=list)


class FeatureDetails(FeatureAnswer, rename="camel", omit_defaults=True, kw_only=True):
    """`GET /features/{ref}`"""

    used_by: UsedBy


class EntityTypeAnswer(msgspec.Struct, rename="camel", omit_defaults=True):
    """An entity type. A type that is not declared has no timestamps."""

    name: str
    keys: tuple[str, ...]
    description: str
    tags: tuple[str, ...]
    features: Annotated[int, Meta(description="how many are of it")]
    owner: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class EntityTypesAnswer(msgspec.Struct):
    """`GET /entities`"""

    entities: list[EntityTypeAnswer]


class ServiceFeatureAnswer(msgspec.Struct, omit_defaults=True):
    """A feature of a service: `ref` is its id, `as` the name of its column."""

    ref: str
    name: str = msgspec.field(name="as")
    key: str | dict[str, str] | None = None


class ServiceAnswer(msgspec.Struct, rename="camel", omit_defaults=True):
    """A version of a service. `id` is its reference, `name.vN`."""

    id: str
    name: str
    version: int
    description: str
    features: list[ServiceFeatureAnswer]
    tags: tuple[str, ...]
    created_at: str
    updated_at: str
    owner: str | None = None


class ServicesAnswer(msgspec.Struct):
    """`GET /services`"""

    services: list[ServiceAnswer]


class GroupAnswer(msgspec.Struct, rename="camel"):
    """A registered group. `feature_ids`: what its references mean, which is what it reads."""

    name: str
    entity: str
    description: str
    features: tuple[str, ...]
    tags: tuple[str, ...]
    created_at: str
    updated_at: str
    feature_ids: tuple[str, ...] = ()


class FieldChange(msgspec.Struct):
    """A field of something registered, before and after."""

    field: str
    before: Any
    after: Any


class RegistrationOutcome(msgspec.Struct, omit_defaults=True):
    """What has become of a registration, or would. `id`: a feature's or service's id, a name of the others."""

    id: str
    outcome: Literal["created", "updated", "unchanged"]
    changes: list[FieldChange] = []


class RegistrationsAnswer(msgspec.Struct):
    """`POST /registrations`: in the order asked; groups that features join with `group` come last."""

    entities: list[RegistrationOutcome]
    features: list[RegistrationOutcome]
    groups: list[RegistrationOutcome]
    services: list[RegistrationOutcome]


class FeaturesAnswer(msgspec.Struct, rename="camel", omit_defaults=True):
    """`GET /features`"""

    features: list[FeatureAnswer]
    next_cursor: str | None = None


class VersionsAnswer(msgspec.Struct):
    """`GET /features/{entity}.{name}/versions`"""

    versions: list[FeatureAnswer]


class EntityIdsAnswer(msgspec.Struct, rename="camel", omit_defaults=True):
    """`GET /entities/{name}/ids`"""

    ids: list[str]
    next_cursor: str | None = None


class GroupsAnswer(msgspec.Struct):
    """`GET /groups`"""

    groups: list[GroupAnswer]


class FaultAnswer(msgspec.Struct, omit_defaults=True):
    """One part of the input that is at fault."""

    field: str
    message: str
    index: Annotated[
        int | None,
        Meta(
            description="the index of the item in its batch, or of the line in the body (blank ones count), from 0"
        ),
    ] = None


class Written(msgspec.Struct, omit_defaults=True):
    """The answer to a write; a batch has `count`, and with `?partial=true` `errors` for what was not written.

    `overwritten`: how many of the `count` were overwritten by a later value of the batch with the same feature,
    entity and timestamp.
    """

    success: bool
    count: int | None = None
    errors: list[FaultAnswer] | None = None
    overwritten: int | None = None
    more_errors: Annotated[
        int | None, Meta(description="how many more errors there are than `errors` names; absent if none")
    ] = msgspec.field(default=None, name="moreErrors")


class ValueMetadata(msgspec.Struct, rename="camel"):
    """Where a served value comes from. `status`: present, null, missing or expired."""

    status: str
    timestamp: str | None
    age_seconds: float | None


class ServedEntity(msgspec.Struct, rename="camel"):
    """The values of one entity, keyed by the references as asked for."""

    entity_id: str
    features: dict[str, Any]
    timestamp: str
    metadata: dict[str, ValueMetadata] | UnsetType = UNSET


class ServedRow(msgspec.Struct):
    """The values of one row, by reference as asked for; `keys`: the fields of the row that name its entities."""

    keys: dict[str, str | int | None]
    features: dict[str, Any]
    timestamp: str
    metadata: dict[str, ValueMetadata] | UnsetType = UNSET


class ServedAnswer(msgspec.Struct):
    """`POST /features/serve` with `entityIds`"""

    results: list[ServedEntity]


class ServedRows(msgspec.Struct):
    """`POST /features/serve` with `rows`"""

    results: list[ServedRow]


class HistoricalAnswer(msgspec.Struct):
    """`POST /features/historical`: rows of entityId, the values, and with `window` windowStart and windowEnd."""

    results: list[dict[str, Any]]


class TrainingSetAnswer(msgspec.Struct):
    """`POST /features/training-set`: the rows in their order, each with a value per feature."""

    results: list[dict[str, Any]]


class HistoryItem(msgspec.Struct):
    """One observation."""

    timestamp: str
    value: Any


class HistoryAnswer(msgspec.Struct, rename="camel", omit_defaults=True):
    """`GET /features/{ref}/history`"""

    feature_id: str
    entity_id: str
    observations: list[HistoryItem]
    next_cursor: str | None = None


class Deleted(msgspec.Struct):
    """How many observations an erased entity had, corrected ones included, and in how many features."""

    observations: int
    features: int


class Erasure(msgspec.Struct):
    """`DELETE /entities/{entity}/{entityId}`"""

    deleted: Deleted
    receipt: str


class Health(msgspec.Struct):
    """`GET /health/live` and `GET /health/ready`"""

    status: str


class Problem(msgspec.Struct, omit_defaults=True):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FaultAnswer] | None = None
