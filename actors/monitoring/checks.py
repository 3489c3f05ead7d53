"""Quality checks: what each type of check requires of a feature.

A check covers all accepted observations, or with `window` those with event times within that long before now.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from actors.domain import Feature, check_record
from actors.errors import InvalidInput, fault_of
from actors.monitoring.drift import check_method
from actors.timestamps import Duration, duration, parse_duration
from actors.types.constraints import camel, check_enum, constraint_value
from actors.types.patterns import check_pattern
from actors.types.values import type_of

CheckType = Literal["null", "range", "enum", "pattern", "unique", "freshness", "volume", "drift"]
CHECK_TYPES: tuple[str, ...] = get_args(CheckType)
_CONSTRAINT = {"range": "min", "enum": "enum", "pattern": "pattern"}
"""A check of this type applies to the value types whose schema may have this constraint."""


class _Config(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    pass


class _Windowed(_Config, frozen=True, kw_only=True):
    window: Duration | None = None


class NullConfig(_Windowed, frozen=True, kw_only=True):
    """At most this fraction of nulls."""

    max_null_rate: float


class RangeConfig(_Windowed, frozen=True, kw_only=True):
    """At most this fraction of values outside [min, max]."""

    min: float | int | str | None = None
    max: float | int | str | None = None
    max_violation_rate: float = 0.0


class EnumConfig(_Windowed, frozen=True, kw_only=True):
    """At most this fraction of values other than these."""

    values: tuple[Any, ...]
    max_violation_rate: float = 0.0


class PatternConfig(_Windowed, frozen=True, kw_only=True):
    """At most this fraction of values that do not match `regex`, which has the syntax of a schema's `pattern`."""

    regex: str
    max_violation_rate: float = 0.0


class UniqueConfig(_Windowed, frozen=True, kw_only=True):
    """The number of distinct values is within these bounds."""

    min_unique: int | None = None
    max_unique: int | None = None


class FreshnessConfig(_Config, frozen=True, kw_only=True):
    """The newest event time is at most this old."""

    max_age: Duration


class VolumeConfig(_Config, frozen=True, kw_only=True):
    """The number of observations with event times of the last `window` is within these bounds."""

    window: Duration
    min: int | None = None
    max: int | None = None


class DriftConfig(_Config, frozen=True, kw_only=True):
    """No drift of at least medium severity; with `threshold`, no drift at all by `method` and that threshold."""

    threshold: float | None = None
    method: str | None = None
    window: Duration | None = None


Config = (
    NullConfig
    | RangeConfig
    | EnumConfig
    | PatternConfig
    | UniqueConfig
    | FreshnessConfig
    | VolumeConfig
    | DriftConfig
)
_CONFIGS: dict[str, type[Config]] = {
    "null": NullConfig,
    "range": RangeConfig,
    "enum": EnumConfig,
    "pattern": PatternConfig,
    "unique": UniqueConfig,
    "freshness": FreshnessConfig,
    "volume": VolumeConfig,
    "drift": DriftConfig,
}


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A check on a feature; `created` is that of the feature. `config`: as given by the user."""

    id: str
    feature_id: str
    created: int
    check_type: CheckType
    config: dict[str, Any]

    @property
    def key(self) -> str:
        """The feature id and the check id, which together are unique."""
        return f"{self.feature_id} {self.id}"

    @property
    def typed(self) -> Any:
        """The config as the struct of its type."""
        return msgspec.convert(self.config, _CONFIGS[self.check_type])

    @property
    def window(self) -> int | None:
        """The length in microseconds of the period to check; None for everything."""
        given = getattr(self.typed, "window", None)
        return None if given is None else duration(given)


def make_check(feature: Feature, id_: str, check_type: str, config: dict[str, Any]) -> Check:
    """Create a check. Raises InvalidInput, which names the field, if it does not apply to the feature."""
    if check_type not in CHECK_TYPES:
        raise InvalidInput.at("checkType", f"{check_type!r} is not one of {', '.join(CHECK_TYPES)}")
    if _CONSTRAINT.get(check_type, "") not in {"", *type_of(feature).constraints}:
        raise InvalidInput.at(
            "checkType", f"{check_type} makes no sense for {feature.id}, which is of type {feature.value_type}"
        )
    check = Check(
        id=id_,
        feature_id=feature.id,
        created=feature.created,
        check_type=check_type,  # type: ignore[arg-type]
        config=config,
    )
    for name, value in config.items():
        _check_storable(f"config.{name}", value)
    check_record("the check", check)
    try:
        typed = check.typed
    except msgspec.ValidationError as error:
        fault = fault_of(error, "config")
        raise InvalidInput(f"{fault.field}: {fault.message}", [fault]) from None
    _check_config(feature, typed)
    return check


def _check_storable(field: str, value: Any) -> None:
    """Raise InvalidInput for an integer that does not fit in 64 bits: MessagePack cannot encode it."""
    if isinstance(value, list):
        for position, item in enumerate(value):
            _check_storable(f"{field}[{position}]", item)
    elif type(value) is int and not -(2**63) <= value < 2**63:
        raise InvalidInput.at(field, "does not fit in 64 bits; write a larger number with an exponent")


def _check_config(feature: Feature, config: Any) -> None:
    for name in ("max_null_rate", "max_violation_rate"):
        if not 0 <= getattr(config, name, 0.0) <= 1:
            raise InvalidInput.at(f"config.{camel(name)}", "must be from 0 to 1")
    for name in ("window", "max_age"):
        if getattr(config, name, None) is not None:
            parse_duration(getattr(config, name), f"config.{camel(name)}")
    match config:
        case RangeConfig() | UniqueConfig() | VolumeConfig():
            _check_bounds(feature, config)
        case EnumConfig(values=values):
            check_enum(values, "config.values")
            for position, value in enumerate(values):
                constraint_value(feature.value_type, value, f"config.values[{position}]")
        case PatternConfig(regex=regex):
            check_pattern(regex, "config.regex")
        case DriftConfig():
            _check_drift(feature, config)


def _check_drift(feature: Feature, config: DriftConfig) -> None:
    if config.threshold is not None and not config.threshold > 0:
        raise InvalidInput.at("config.threshold", "must be greater than 0")
    check_method(feature, config.method, "config.method")


def _check_bounds(feature: Feature, config: RangeConfig | UniqueConfig | VolumeConfig) -> None:
    low_name, high_name = ("min_unique", "max_unique") if isinstance(config, UniqueConfig) else ("min", "max")
    low, high = getattr(config, low_name), getattr(config, high_name)
    if low is None and high is None:
        raise InvalidInput.at(f"config.{camel(low_name)}", f"give {camel(low_name)}, {camel(high_name)} or both")
    if isinstance(config, RangeConfig):
        low, high = bounds_of(feature, config)
    if low is not None and high is not None and low > high:
        raise InvalidInput.at(f"config.{camel(low_name)}", f"is greater than config.{camel(high_name)}")


def bounds_of(feature: Feature, config: RangeConfig) -> tuple[Any, Any]:
    """The smallest and the largest value in range, in the feature's stored form; None for no bound."""
    low = None if config.min is None else constraint_value(feature.value_type, config.min, "config.min")
    high = None if config.max is None else constraint_value(feature.value_type, config.max, "config.max")
    return low, high
