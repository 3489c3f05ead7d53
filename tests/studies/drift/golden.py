"""What Evidently and NannyML say about the samples of recipe.py: the numbers that tests/actors hold.

    python -m venv there && there/bin/pip install evidently==0.7.23  # or nannyml==0.13.1
    there/bin/python -m tests.studies.drift.golden evidently              # or nannyml

prints them as Python. The two need different versions of their dependencies, so an environment each.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pprint import pprint

from tests.studies.drift.recipe import PAIRS, Floats

STAT_TESTS = {"ksPValue": "ks", "wassersteinNormed": "wasserstein", "jensenShannon": "jensenshannon", "psi": "psi"}


def evidently(reference: Floats, current: Floats) -> dict[str, float | bool | str]:
    """Each score asked for by name, and what it takes by default."""
    series = import_module("pandas").Series
    registry = import_module("evidently.legacy.calculations.stattests.registry")
    numeric = import_module("evidently.legacy.core").ColumnType.Numerical
    before, after = series(reference), series(current)

    def asked(name: str | None) -> tuple[str, float, bool]:
        test = registry.get_stattest(before, after, numeric, name)
        result = test(before, after, numeric, None)
        return test.name, float(result.drift_score), bool(result.drifted)

    scores: dict[str, float | bool | str] = {ours: asked(theirs)[1] for ours, theirs in STAT_TESTS.items()}
    scores["default"], scores["score"], scores["drift"] = asked(None)
    return scores


def nannyml(reference: Floats, current: Floats) -> dict[str, list[float] | list[bool]]:
    """Distances and alerts of the chunks of the current values, by default."""
    frame = import_module("pandas").DataFrame
    calculator = import_module("nannyml").UnivariateDriftCalculator(column_names=["feature"])
    calculator.fit(frame({"feature": reference}))
    result = calculator.calculate(frame({"feature": current})).filter(period="analysis").to_df()
    chosen = result["feature"]["jensen_shannon"]
    return {"distances": chosen["value"].tolist(), "alerts": [bool(alert) for alert in chosen["alert"]]}


if __name__ == "__main__":
    ask = {"evidently": evidently, "nannyml": nannyml}[sys.argv[1]]
    pprint({name: ask(*pair) for name, pair in PAIRS.items()}, width=115, sort_dicts=False)
