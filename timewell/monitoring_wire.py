"""The request bodies and answers of monitoring, in the contract's form."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from timewell.wire import Body, Timestamp

Verdict = Literal["stable", "drift", "insufficient"]
Severity = Literal["none", "low", "medium", "high"]


class HistogramAnswer(msgspec.Struct):
    """A histogram: `counts[i]` values lie between `edges[i]` and `edges[i + 1]`."""

    edges: list[Any]
    counts: list[int]


class TopValue(msgspec.Struct):
    """A frequent value. A long one is shown by its beginning and a digest."""

    value: Any
    count: int


class Spread(msgspec.Struct):
    """The distribution of numbers."""

    mean: float | int | None
    std: float | int | None
    min: float | int | None
    max: float | int | None
    quantiles: dict[str, Any]


class StatisticsAnswer(msgspec.Struct, rename="camel"):
    """`GET /features/{ref}/stats`

    `latenessSeconds`: arrival minus event time. `lengths`: characters of strings, or of canonical JSON. `norms`:
    the Euclidean norms of vectors.
    """

    feature_id: str
    count: int
    null_count: int
    unique_values: int
    mean: float | None
    std: float | None
    min: Any
    max: Any
    last_updated: str | None
    quantiles: dict[str, Any] | None
    unique_values_exact: bool
    histogram: HistogramAnswer | UnsetType | None = UNSET
    top_values: list[TopValue] | UnsetType = UNSET
    true_rate: float | UnsetType | None = UNSET
    lengths: Spread | UnsetType = UNSET
    norms: Spread | UnsetType = UNSET
    lateness_seconds: Spread | UnsetType = UNSET


class PutCheck(Body):
    """`POST /features/{ref}/checks`"""

    check_type: str
    config: dict[str, Any]
    id: str | UnsetType = UNSET


class CheckAnswer(msgspec.Struct, rename="camel"):
    """A check with its last result."""

    id: str
    feature_id: str
    check_type: str
    config: dict[str, Any]
    status: str
    observed: float | int | None
    message: str
    last_run: str


class ChecksAnswer(msgspec.Struct):
    """`GET /checks` and `GET /features/{ref}/checks`"""

    checks: list[CheckAnswer]


class PutReference(Body):
    """`PUT /features/{ref}/reference`"""

    start_time: Timestamp
    end_time: Timestamp


class ReferenceAnswer(msgspec.Struct, rename="camel"):
    """The pinned reference period."""

    feature_id: str
    start_time: str
    end_time: str


class CompareSamples(Body):
    """`POST /features/{ref}/drift`"""

    current: list[Any]
    reference: list[Any]
    method: str | UnsetType = UNSET
    threshold: float | UnsetType = UNSET


class SideAnswer(msgspec.Struct, rename="camel"):
    """One side of a comparison: its period (null for a given sample) and its number of values."""

    start_time: str | None
    end_time: str | None
    count: int


class DriftAnswer(msgspec.Struct, rename="camel"):
    """`GET` and `POST /features/{ref}/drift`"""

    feature_id: str
    drift: bool | None
    score: float | None
    method: str
    threshold: float
    p_value: float | None
    metrics: dict[str, float]
    reference: SideAnswer
    current: SideAnswer
    verdict: Verdict
    severity: Severity
    reasons: list[str]


class ScoresAnswer(msgspec.Struct):
    """`GET /features/{ref}/drift/history`, newest first."""

    scores: list[DriftAnswer]


class FeatureFreshness(msgspec.Struct, rename="camel"):
    """How old a feature is. `late`: whether it is older than its maxAge; null without one.

    `message`: present if the statistics of the feature are damaged, when the other fields may be null.
    """

    feature_id: str
    last_event_time: str | None
    last_arrival: str | None
    event_age_seconds: float | None
    arrival_age_seconds: float | None
    max_age_seconds: float | None
    late: bool | None
    message: str | UnsetType = UNSET


class GroupFreshness(msgspec.Struct, rename="camel"):
    """How old a group is: as old as its oldest feature. Ages are null if one of them was never written."""

    name: str
    event_age_seconds: float | None
    arrival_age_seconds: float | None
    late_features: list[str]


class FreshnessAnswer(msgspec.Struct):
    """`GET /monitor/freshness`"""

    features: list[FeatureFreshness]
    groups: list[GroupFreshness]


class AlertsAnswer(msgspec.Struct):
    """`GET /monitor/alerts`, newest first."""

    alerts: list[dict[str, Any]]


class FeatureAgreement(msgspec.Struct, rename="camel"):
    """Since the start: how many served values were compared with a point-in-time read, and how many differed."""

    feature_id: str
    compared: int
    mismatched: int


class AgreementAnswer(msgspec.Struct):
    """`GET /monitor/agreement`"""

    features: list[FeatureAgreement]


class MonitorAnswer(msgspec.Struct, rename="camel"):
    """`GET /monitor/status`: how far the monitor is behind the journal."""

    position: str
    lag_seconds: float
    waiting_observations: int
    waiting_messages: int
