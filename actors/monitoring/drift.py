"""Drift of a feature between two summaries of its stream, or between two given samples.

Which measures apply depends on the value type: numbers, integers and timestamps are compared as distributions;
strings, booleans and JSON as counts of categories; vectors by their means and norms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from actors.domain import Feature
from actors.errors import InvalidInput
from actors.stats.components import Components
from actors.stats.drift import nulls, vector_shift
from actors.stats.drift.judgement import Judgement
from actors.stats.drift.sample import Sample, of, weighted
from actors.stats.drift.verdict import (
    CATEGORICAL_METHODS,
    NUMERIC_METHODS,
    judge_categories,
    judge_numbers,
    judge_vectors,
)
from actors.stats.summary import Summary
from actors.stats.top_values import cut
from actors.types.type import Array, Coerced
from actors.types.values import convert, type_of

MOST_GIVEN = 1_000_000
OTHER = "(others)"
_METHODS = {"amounts": NUMERIC_METHODS, "categories": CATEGORICAL_METHODS, "components": ("vectorShift",)}
OTHER_TOOLS = ("evidently", "nannyml", "hopsworks")
"""Methods that follow another tool's definition, which needs the values themselves rather than summaries."""


def check_method(feature: Feature, method: str | None, field: str = "method") -> None:
    """Raise InvalidInput for a method that does not apply to the feature's value type."""
    methods = _METHODS[type_of(feature).compared]
    if method is not None and method not in methods:
        raise InvalidInput.at(field, f"{method!r} is not one of {', '.join(methods)} (type {feature.value_type})")


def between(
    feature: Feature,
    reference: Summary,
    current: Summary,
    method: str | None = None,
    threshold: float | None = None,
) -> Judgement:
    """Judge how far a current period of the stream has drifted from a reference, in its values and its nulls."""
    before, after = [nulls.Share(summary.null_count, summary.count) for summary in (reference, current)]
    return nulls.judged(_values_between(feature, reference, current, method, threshold), before, after)


def _values_between(
    feature: Feature, reference: Summary, current: Summary, method: str | None, threshold: float | None
) -> Judgement:
    compared = type_of(feature).compared
    if compared == "categories":
        pair = _counts(reference), _counts(current)
        return judge_categories(*pair, method=method, threshold=threshold)
    samples = _sample(reference), _sample(current)
    error = max(reference.numbers.quantiles.rank_error, current.numbers.quantiles.rank_error)
    if compared == "components":
        sides = _components(reference.components), _components(current.components)
        return judge_vectors(*sides, norms=samples, threshold=threshold, rank_error=error)
    moments = reference.numbers.moments, current.numbers.moments
    return judge_numbers(*samples, method=method, threshold=threshold, rank_error=error, moments=moments)


def _sample(summary: Summary) -> Sample:
    return weighted(*summary.numbers.quantiles.weighted())


def _counts(summary: Summary) -> Mapping[str, int]:
    """The counts of the most frequent values; all values beyond those kept are counted as one, OTHER."""
    counts = dict(summary.top.most())
    rest = summary.count - summary.null_count - sum(counts.values())
    return {**counts, OTHER: rest} if rest > 0 else counts


def _components(components: Components) -> vector_shift.VectorSide:
    return vector_shift.VectorSide(components.count, components.means(), components.variances())


def of_samples(
    feature: Feature,
    reference: Sequence[Any],
    current: Sequence[Any],
    method: str | None = None,
    threshold: float | None = None,
) -> Judgement:
    """Judge the drift between two samples of JSON values.

    Raises InvalidInput, which names the first value that is not of the feature's type.
    """
    columns = _column(feature, reference, "reference"), _column(feature, current, "current")
    one, two = [column.values[~column.nulls] for column in columns]
    before, after = [nulls.Share(int(np.count_nonzero(column.nulls)), len(column.nulls)) for column in columns]
    return nulls.judged(of_columns(feature, one, two, method, threshold), before, after)


def of_columns(
    feature: Feature, before: Array, after: Array, method: str | None = None, threshold: float | None = None
) -> Judgement:
    """Judge the drift between two columns of values without nulls: the reference and the current values."""
    compared = type_of(feature).compared
    if compared == "categories":
        pair = [_counted(feature, values) for values in (before, after)]
        return judge_categories(pair[0], pair[1], method=method, threshold=threshold)
    if compared == "components":
        norms = (
            of(np.linalg.norm(before.astype(np.float64), axis=1)),
            of(np.linalg.norm(after.astype(np.float64), axis=1)),
        )
        sides = []
        for values in (before, after):
            components = Components()
            components.add(values)
            sides.append(_components(components))
        return judge_vectors(sides[0], sides[1], norms=norms, threshold=threshold)
    samples = of(before.astype(np.float64)), of(after.astype(np.float64))
    return judge_numbers(*samples, method=method, threshold=threshold)


def _column(feature: Feature, given: Sequence[Any], field: str) -> Coerced:
    column = convert(feature, given)
    if column.refused:
        position, reason = column.refused[0]
        raise InvalidInput.at(f"{field}[{position}]", reason)
    return column


def _counted(feature: Feature, values: Array) -> Mapping[str, int]:
    texts = map(cut, values.tolist()) if values.dtype == object else (str(bool(one)).lower() for one in values)
    return Counter(texts)
