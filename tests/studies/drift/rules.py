"""The rules that are compared, each on the same two samples in the order they were drawn."""

from __future__ import annotations

from collections import Counter

import numpy as np

from actors.stats.drift import evidently, hopsworks, nannyml, sample
from actors.stats.drift.judgement import Judgement
from actors.stats.drift.verdict import judge_categories, judge_numbers
from tests.studies.drift.populations import Floats

COLUMNS = ["Timewell", "Evidently", "NannyML, a chunk", "NannyML, any chunk", "Hopsworks"]


def judged(reference: Floats, current: Floats, categorical: bool) -> Judgement:
    """By Timewell's default."""
    if categorical:
        return judge_categories(_counted(reference), _counted(current))
    return judge_numbers(sample.of(reference), sample.of(current))


def alarms(reference: Floats, current: Floats, categorical: bool) -> list[float]:
    """Of every rule in COLUMNS: 1 or 0, of chunks the share that alerts."""
    judgement = judged(reference, current, categorical)
    if categorical:
        before, after = _counted(reference), _counted(current)
        theirs = evidently.categories(before, after).drift
        psi = hopsworks.categories(before, after)
        far = nannyml.from_categories(reference)
    else:
        numbers = sample.of(reference), sample.of(current)
        theirs = evidently.numbers(*numbers).drift
        psi = hopsworks.numbers(*numbers)
        far = nannyml.from_numbers(reference)
    chunks = nannyml.alerts(reference, current, far)
    return [
        float(bool(judgement.drift)),
        float(theirs),
        float(np.mean(chunks)),
        float(any(chunks)),
        float(psi >= hopsworks.PSI),
    ]


def _counted(values: Floats) -> dict[str, int]:
    return {str(int(value)): count for value, count in Counter(values.tolist()).items()}
