"""`timewell drift`: whether the values of one period differ from those of another."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from typing import Any

from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import show_json, show_pairs

MORE = """\
Without --current, the window that ends now is judged. Without --reference, it is compared with the pinned period,
else with the preceding windows. The verdict is stable, drift or insufficient; the exit code is 0 for each."""


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "drift", run, "compare the values of two periods", MORE)
    parser.add_argument("feature", metavar="FEATURE", help="a feature by its id, entity.name or name")
    parser.add_argument("--reference", type=_period, metavar="START/END", help="the period to compare with")
    parser.add_argument("--current", type=_period, metavar="START/END", help="the period to judge")
    parser.add_argument("--method", help="score by this measure, such as psi or ks")
    parser.add_argument("--threshold", type=float, help="a score of at least this is drift")


def _period(text: str) -> tuple[str, str]:
    start, slash, end = text.partition("/")
    if not (start and slash and end):
        raise ArgumentTypeError(f"{text!r} is not START/END, two RFC 3339 timestamps")
    return start, end


def run(asked: Namespace) -> None:
    """Compare the two periods and print the verdict."""
    with client_of(asked) as client:
        found = client.drift(
            asked.feature,
            reference=asked.reference,
            current=asked.current,
            method=asked.method,
            threshold=asked.threshold,
        )
    if asked.json:
        show_json(found)
        return
    pairs: list[tuple[str, Any]] = [
        ("feature", found.feature_id),
        ("verdict", found.verdict),
        ("severity", found.severity),
        ("score", found.score),
        ("threshold", found.threshold),
        ("method", found.method),
        ("p-value", found.p_value),
        (
            "reference",
            f"{found.reference.start_time} to {found.reference.end_time}, {found.reference.count} values",
        ),
        ("current", f"{found.current.start_time} to {found.current.end_time}, {found.current.count} values"),
        *found.metrics.items(),
        *(("because", reason) for reason in found.reasons),
    ]
    show_pairs([pair for pair in pairs if pair[1] is not None])
