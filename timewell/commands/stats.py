"""`timewell stats`: show the statistics of a feature."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import show_json, show_pairs

if TYPE_CHECKING:
    from timewell.monitoring_wire import StatisticsAnswer


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "stats", run, "show statistics of a feature")
    parser.add_argument("feature", metavar="FEATURE", help="a feature by its id, entity.name or name")
    parser.add_argument("--start", metavar="MOMENT", help="only from this event time on")
    parser.add_argument("--end", metavar="MOMENT", help="only up to this event time")


def run(asked: Namespace) -> None:
    """Print the statistics."""
    with client_of(asked) as client:
        found = client.stats(asked.feature, start=asked.start, end=asked.end)
    if asked.json:
        show_json(found)
    else:
        show_pairs(_pairs(found))


def _pairs(found: StatisticsAnswer) -> list[tuple[str, Any]]:
    """The figures that make sense for the type of the feature."""
    pairs: list[tuple[str, Any]] = [
        ("feature", found.feature_id),
        ("count", found.count),
        ("nulls", found.null_count),
        ("unique", found.unique_values if found.unique_values_exact else f"about {found.unique_values}"),
        ("mean", found.mean),
        ("std", found.std),
        ("min", found.min),
        ("max", found.max),
        *(found.quantiles or {}).items(),
        ("last updated", found.last_updated),
    ]
    if isinstance(found.true_rate, int | float):
        pairs.append(("share of true", found.true_rate))
    if isinstance(found.top_values, list):
        pairs += [(f"{one.count} times", one.value) for one in found.top_values]
    return [pair for pair in pairs if pair[1] is not None]
