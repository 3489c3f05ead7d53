"""The domain objects: features, their schemas, groups and references. Frozen, with hardly any behaviour."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, get_args

import msgspec
from msgspec import UNSET, UnsetType

from actors.errors import InvalidInput, TooLarge
from actors.settings import MAX_RECORD_BYTES
from actors.timestamps import duration
from timewell.wire import DEFAULT_RETENTION_VALUES, Duration, Retention, ValueSchema, ValueType

__all__ = [
    "VALUE_TYPES",
    "EntityType",
    "Feature",
    "FeatureChange",
    "FeatureService",
    "Group",
    "OnDemand",
    "Pinned",
    "Record",
    "Reference",
    "Retention",
    "ServiceFeature",
    "ValueSchema",
    "ValueType",
    "check_name",
    "check_record",
    "feature_id",
    "kind_of",
    "parse_reference",
    "record_of",
]

VALUE_TYPES: tuple[str, ...] = get_args(ValueType)

ROW_FIELDS = ("entityId", "timestamp")
"""What rows have by themselves: no key of an entity type and no column of a service is named like them."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")
_VERSION = re.compile(r"v([1-9][0-9]{0,8})")


class Pinned(msgspec.Struct, frozen=True, array_like=True):
    """A feature that a definition reads. `created` tells it from a later feature of the same id."""

    id: str
    created: int


class OnDemand(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a feature is computed when it is read: an expression over other features and fields of the request.

    `features`: for each of their names in the expression a `Pinned` feature. `request`: for each field of a row
    its value type. Both are pairs, sorted by name.
    """

    expression: str
    features: tuple[tuple[str, Pinned], ...] = ()
    request: tuple[tuple[str, ValueType], ...] = ()


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """A named, typed, versioned attribute of an entity type. Durations are kept as they were given.

    `created` (microseconds, unique per registration) also distinguishes this feature from a deleted one of the
    same id: every observation carries the `created` of the feature that it belongs to.
    """

    id: str
    entity: str
    name: str
    version: int
    value_type: ValueType
    created: int
    updated: int
    description: str = ""
    tags: tuple[str, ...] = ()
    owner: str | None = None
    group: str | None = None
    schema: ValueSchema | None = None
    max_age: Duration | None = None
    retention: Retention | None = None
    promoted: bool = True
    """Whether `entity.name` and the bare name may mean this version."""
    definition: OnDemand | None = None
    """How it is computed; None for a feature whose values are written."""

    @property
    def expires_after(self) -> int | None:
        """Microseconds after which a value is served as null; None: never."""
        return None if self.max_age is None else duration(self.max_age)

    @property
    def kept_values(self) -> int:
        """How many observations per entity stay in memory."""
        return self.retention.values if self.retention else DEFAULT_RETENTION_VALUES

    @property
    def kept_age(self) -> int | None:
        """Microseconds after which an observation is no longer visible to any query; None: never."""
        age = self.retention.age if self.retention else None
        return None if age is None else duration(age)


class FeatureChange(msgspec.Struct, frozen=True, kw_only=True):
    """A request to register or update a feature. A field left out is UNSET, and keeps its value on an update.

    With `expression` it is computed on demand: see `OnDemand`, whose features are references here.
    """

    entity: str
    name: str
    value_type: ValueType | UnsetType = UNSET
    version: int = 1
    description: str | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    owner: str | UnsetType | None = UNSET
    group: str | UnsetType | None = UNSET
    schema: ValueSchema | UnsetType | None = UNSET
    max_age: Duration | UnsetType | None = UNSET
    retention: Retention | UnsetType | None = UNSET
    promoted: bool | UnsetType = UNSET
    expression: str | UnsetType = UNSET
    features: Mapping[str, str] | UnsetType = UNSET
    request: Mapping[str, ValueType] | UnsetType = UNSET


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """An ordered list of feature references of one entity type that are read together.

    `ids`: the features that the references meant when the group was made, which is what it reads. Groups of an
    earlier version of Timewell have none, and read what their references mean at the time.
    """

    name: str
    entity: str
    features: tuple[str, ...]
    created: int
    updated: int
    description: str = ""
    tags: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()


class EntityType(msgspec.Struct, frozen=True, kw_only=True, tag="entity", tag_field="kind"):
    """What features describe. `keys`: the columns that identify an entity; a composite type has several."""

    name: str
    keys: tuple[str, ...]
    created: int
    updated: int
    description: str = ""
    tags: tuple[str, ...] = ()
    owner: str | None = None

    @property
    def key(self) -> str:
        """What it is stored under."""
        return self.name


class ServiceFeature(msgspec.Struct, frozen=True, omit_defaults=True):
    """A feature as a service reads it: pinned by its id, and the name of its column.

    `key`: the field of a row that holds the entity id, or for some keys of the entity type the fields that hold
    them, as pairs sorted by key; fields are otherwise named like the keys. `created`: of the feature that is
    meant, so that another that is registered under its id later is not taken for it; 0 in a reference, and in
    services of an earlier version of Timewell.
    """

    feature: str
    name: str
    key: str | tuple[tuple[str, str], ...] | None = None
    created: int = 0

    def means(self, feature: Feature) -> bool:
        """Whether this is the feature that was pinned."""
        return self.feature == feature.id and self.created in (0, feature.created)


class FeatureService(msgspec.Struct, frozen=True, kw_only=True, tag="service", tag_field="kind"):
    """What a model reads: an ordered, versioned list of features of any entity types."""

    name: str
    version: int
    features: tuple[ServiceFeature, ...]
    created: int
    updated: int
    description: str = ""
    tags: tuple[str, ...] = ()
    owner: str | None = None

    @property
    def key(self) -> str:
        """Its reference, `name.vN`, under which it is stored."""
        return f"{self.name}.v{self.version}"


class KeptTrainingSet(msgspec.Struct, frozen=True, kw_only=True, tag="training-set", tag_field="kind"):
    """A training set that can be made again: what was asked for, as JSON with its features pinned by id.

    `reads`: the ids of these features and that of the spine. `known`: the last arrival that counts. `rows` and
    `content`: how many rows it had, and the SHA-256 of their NDJSON. `pins`: the `created` of each that it reads;
    those of an earlier version of Timewell have none.
    """

    name: str
    definition: str
    reads: tuple[str, ...]
    known: int
    rows: int
    content: str
    created: int = 0
    updated: int = 0
    description: str = ""
    tags: tuple[str, ...] = ()
    owner: str | None = None
    pins: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """What it is stored under."""
        return self.name

    @property
    def pinned(self) -> list[tuple[str, int]]:
        """The id and `created` of each feature that it reads; 0 stands for any."""
        return list(zip(self.reads, self.pins or (0,) * len(self.reads), strict=True))


Record = EntityType | FeatureService | KeptTrainingSet
"""What the catalogue holds."""
_DECODE_RECORD = msgspec.msgpack.Decoder[Record](Record).decode


def record_of(data: bytes) -> Record:
    """Decode a record of the catalogue."""
    record: Record = _DECODE_RECORD(data)
    return record


def kind_of(record: Record) -> str:
    """The kind that a record is stored under: `entity`, `service` or `training-set`."""
    return str(record.__struct_config__.tag)


class Reference(NamedTuple):
    """A parsed feature reference: `name`, `entity.name` or `entity.name.vN`."""

    entity: str | None
    name: str
    version: int | None


def feature_id(entity: str, name: str, version: int) -> str:
    """The id of a feature.

    >>> feature_id("user", "purchase_count_7d", 1)
    'user.purchase_count_7d.v1'
    """
    return f"{entity}.{name}.v{version}"


def check_name(text: str, field: str) -> None:
    """Raise InvalidInput unless `text` may name an entity type, a feature or a group."""
    if not _NAME.fullmatch(text):
        raise InvalidInput.at(field, f"{text!r} does not match [A-Za-z_][A-Za-z0-9_-]{{0,127}}")


def check_record(what: str, record: msgspec.Struct) -> None:
    """Raise TooLarge for a record larger than MAX_RECORD_BYTES: records stay in memory and are returned whole."""
    size = len(msgspec.msgpack.encode(record))
    if size > MAX_RECORD_BYTES:
        largest = max(
            record.__struct_fields__, key=lambda name: len(msgspec.msgpack.encode(getattr(record, name)))
        )
        raise TooLarge(f"{what} takes {size} bytes, {largest} most of them; at most {MAX_RECORD_BYTES} are kept")


def parse_reference(text: str) -> Reference | None:
    """Parse a feature reference; None if `text` is not one.

    >>> parse_reference("user.clicks.v2")
    Reference(entity='user', name='clicks', version=2)
    >>> parse_reference("clicks").entity is None
    True
    """
    parts = text.split(".")
    version = None
    if len(parts) == 3:
        match = _VERSION.fullmatch(parts.pop())
        if match is None:
            return None
        version = int(match[1])
    if len(parts) > 2 or not all(_NAME.fullmatch(part) for part in parts):
        return None
    return Reference(parts[0] if len(parts) == 2 else None, parts[-1], version)
