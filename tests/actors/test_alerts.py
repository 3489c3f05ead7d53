"""The life of an alert: what it takes to fire and to resolve, for any sequence of findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.monitoring.alerts import Alert, Policy, step
from actors.monitoring.checks import Check
from actors.monitoring.findings import Finding

Status = Literal["passing", "failing", "insufficient"]
CHECK = Check(id="c", feature_id="user.f.v1", created=1, check_type="null", config={"maxNullRate": 0.1})
START = 1_762_509_600_000_000
ROUND = 60_000_000
WORDS: dict[str, Status] = {"f": "failing", "p": "passing", ".": "insufficient"}

words = st.lists(st.sampled_from("ffppp."), max_size=40)
policies = st.builds(Policy, st.integers(1, 4), st.integers(0, 12).map(lambda rounds: rounds * ROUND))


class Moved(NamedTuple):
    """In which evaluation an alert began to be firing or resolved."""

    turn: int
    state: str


def finding(word: str, turn: int = 0) -> Finding:
    return Finding(WORDS[word], None if word == "." else turn, f"{word}{turn}")


def lived(rounds: Sequence[str], policy: Policy, alert: Alert | None = None, first: int = 0) -> list[Alert | None]:
    """The check's latest alert after each evaluation: the resolved one where a pending one has gone."""
    lives: list[Alert | None] = []
    resolved = None
    for turn, word in enumerate(rounds, first):
        alert = step(alert, CHECK, finding(word, turn), START + turn * ROUND, policy) or resolved
        if alert is not None and alert.state == "resolved":
            resolved = alert
        lives.append(alert)
    return lives


def states(rounds: Sequence[str], policy: Policy) -> str:
    """`-` nothing, `p` pending, `F` firing, `r` resolved, after each evaluation."""
    signs = {None: "-", "pending": "p", "firing": "F", "resolved": "r"}
    return "".join(signs[alert.state if alert else None] for alert in lived(rounds, policy))


def moves(rounds: Sequence[str], policy: Policy) -> list[Moved]:
    """Every firing and resolving."""
    found = []
    for turn, alert in enumerate(lived(rounds, policy)):
        now = START + turn * ROUND
        if alert is not None and now == (alert.resolved if alert.state == "resolved" else alert.fired):
            found.append(Moved(turn, alert.state))
    return found


def oracle(rounds: Sequence[str], policy: Policy) -> str:
    """The same signs from the words of the contract, by counting backwards each time."""
    said, state, resolved = "", "-", None
    since = 0
    for turn, word in enumerate(rounds):
        told = [one for one in rounds[since : turn + 1] if one != "."]
        failing = len(told) - len("".join(told).rstrip("f"))
        passing = len(told) - len("".join(told).rstrip("p"))
        cool = resolved is None or (turn - resolved) * ROUND >= policy.cooldown
        if word == "f" and state != "F":
            state, since = ("F", turn + 1) if failing >= policy.windows and cool else ("p", since)
        elif word == "p" and state == "p":
            state = "-" if resolved is None else "r"
        elif word == "p" and state == "F" and passing >= policy.windows:
            state, since, resolved = "r", turn + 1, turn
        said += state
    return said


QUICK = Policy(windows=2, cooldown=0)


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        ("p", "-"),
        (".", "-"),
        ("f", "p"),
        ("fp", "p-"),
        ("ff", "pF"),
        ("ffff", "pFFF"),
        ("ffp", "pFF"),
        ("ffpp", "pFFr"),
        ("ffpfp", "pFFFF"),
        ("f.f", "ppF"),
        ("ff.p.p.", "pFFFFrr"),
        ("ffpppp", "pFFrrr"),
        ("fpfpfp", "p-p-p-"),
        ("ffppfpff", "pFFrprpF"),
    ],
)
def test_the_life_of_an_alert(rounds: str, expected: str) -> None:
    assert states(rounds, QUICK) == expected


def test_after_resolving_the_next_alert_waits_out_the_cooldown() -> None:
    policy = Policy(windows=2, cooldown=5 * ROUND)
    # Resolved in evaluation 3: evaluation 8 is the first that may fire again.
    assert states("ffppfffff", policy) == "pFFrppppF"


def test_the_cooldown_is_remembered_by_the_alert_that_waits_and_by_the_one_after_it() -> None:
    policy = Policy(windows=2, cooldown=6 * ROUND)
    lives = lived("ffppff", policy)
    assert lives[-1] is not None
    assert (lives[-1].state, lives[-1].resolved) == ("pending", START + 3 * ROUND)
    fired = lived("ffppffffff", policy)[-1]
    assert fired is not None
    assert (fired.state, fired.fired, fired.resolved) == ("firing", START + 9 * ROUND, None)


@given(words, policies)
def test_an_alert_lives_as_the_naive_oracle_says(rounds: list[str], policy: Policy) -> None:
    assert states(rounds, policy) == oracle(rounds, policy)


@given(words, policies)
def test_nothing_fires_on_fewer_failures_in_a_row_than_the_policy_asks_for(
    rounds: list[str], policy: Policy
) -> None:
    for turn, state in moves(rounds, policy):
        if state == "firing":
            told = [word for word in rounds[: turn + 1] if word != "."]
            assert told[-policy.windows :] == ["f"] * policy.windows


@given(words, policies)
def test_nothing_resolves_on_fewer_passes_in_a_row_than_the_policy_asks_for(
    rounds: list[str], policy: Policy
) -> None:
    for turn, state in moves(rounds, policy):
        if state == "resolved":
            told = [word for word in rounds[: turn + 1] if word != "."]
            assert told[-policy.windows :] == ["p"] * policy.windows


@given(st.integers(2, 5), st.integers(0, 40), st.booleans(), st.lists(st.integers(0, 40), max_size=5))
def test_a_check_that_alternates_never_flaps(windows: int, count: int, fails: bool, gaps: list[int]) -> None:
    rounds = ["f" if (turn % 2 == 0) == fails else "p" for turn in range(count)]
    for gap in gaps:
        rounds.insert(min(gap, len(rounds)), ".")
    policy = Policy(windows, cooldown=0)
    assert moves(rounds, policy) == []
    fired = lived(["f"] * windows, policy)[-1]
    assert {alert and alert.state for alert in lived(rounds, policy, fired, windows)} <= {"firing"}


@given(words, policies)
def test_what_was_insufficient_counts_for_neither_side(rounds: list[str], policy: Policy) -> None:
    alert: Alert | None = None
    for turn, word in enumerate(rounds):
        after = step(alert, CHECK, finding(word, turn), START + turn * ROUND, policy)
        assert after is alert or word != "."
        alert = after
    # With no cooldown to wait out, it makes no difference whether it was looked at at all.
    eager = policy._replace(cooldown=0)
    told = [word for word in rounds if word != "."]
    kept = [alert for alert, word in zip(lived(rounds, eager), rounds, strict=True) if word != "."]
    assert [one and one.state for one in kept] == [one and one.state for one in lived(told, eager)]


@given(words, policies)
def test_two_firings_of_a_check_are_apart_by_the_cooldown_from_the_resolving_between(
    rounds: list[str], policy: Policy
) -> None:
    resolved = None
    for turn, state in moves(rounds, policy):
        if state == "firing" and resolved is not None:
            assert (turn - resolved) * ROUND >= policy.cooldown
        if state == "resolved":
            resolved = turn


@given(words, policies)
def test_the_times_of_an_alert_are_in_order_and_say_what_it_went_through(
    rounds: list[str], policy: Policy
) -> None:
    for alert in lived(rounds, policy):
        if alert is None:
            continue
        assert (alert.fired is not None) == (alert.state != "pending")
        if alert.fired is not None:
            assert alert.since <= alert.fired
        if alert.state == "resolved":
            assert alert.fired is not None
            assert alert.resolved is not None
            assert alert.fired <= alert.resolved


@given(words, policies)
def test_an_alert_shows_the_newest_failure_that_it_is_about(rounds: list[str], policy: Policy) -> None:
    for turn, alert in enumerate(lived(rounds, policy)):
        if alert is not None and rounds[turn] == "f":
            assert (alert.observed, alert.message) == (turn, f"f{turn}")


@given(words, policies)
def test_each_alert_of_a_check_has_an_id_of_its_own_that_it_keeps(rounds: list[str], policy: Policy) -> None:
    began: dict[str, int] = {}
    for alert in lived(rounds, policy):
        if alert is not None:
            assert began.setdefault(alert.id, alert.since) == alert.since
            assert (alert.check_id, alert.feature_id, alert.check_type) == ("c", "user.f.v1", "null")
    assert len(set(began.values())) == len(began)


@given(words, policies)
def test_an_alert_survives_its_note(rounds: list[str], policy: Policy) -> None:
    for alert in lived(rounds, policy):
        if alert is not None:
            assert msgspec.msgpack.decode(msgspec.msgpack.encode(alert), type=Alert) == alert


def test_a_resolved_alert_tells_what_is_so_now() -> None:
    last = lived("ffpp", Policy(2, 0))[-1]
    assert last is not None
    assert (last.state, last.observed, last.message) == ("resolved", 3, "p3")
