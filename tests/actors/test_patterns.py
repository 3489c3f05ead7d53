"""Users' regular expressions: RE2's, with limits that are told, and time that is linear in the text."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain import Feature, FeatureChange, ValueSchema
from actors.errors import InvalidInput, RequestError, TooLarge
from actors.ingest.sent import Sent
from actors.monitoring.checks import Check, make_check
from actors.opening import open_router
from actors.settings import MAX_ENUM_VALUES, MAX_PATTERN_CHARACTERS, MAX_PATTERN_INSTRUCTIONS
from actors.storage.embedded.on_disk import EmbeddedStorage
from actors.storage.entries import Noted, Registered
from actors.types import patterns
from actors.types.constraints import check_schema
from actors.types.patterns import Search, check_pattern
from tests.actors.service import SETTINGS

BACKTRACKS = (r"^(a+)+$", r"^([a-zA-Z0-9])(([\-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+[.]{1}[a-z]{2,3}$")


@pytest.mark.parametrize("pattern", BACKTRACKS)
@pytest.mark.parametrize("count", [1, 500])
def test_a_pattern_on_which_others_backtrack_is_searched_at_once(pattern: str, count: int) -> None:
    evil = "a" * 60_000 + "!"  # Python's own would take longer than the universe lasts
    assert Search(pattern).misses([evil] * count).all()


@given(
    st.lists(st.text("ab1\né", max_size=6), max_size=6), st.sampled_from(["a+1", "^a", "b$", "^$", "é|1", "[^a]b"])
)
@settings(deadline=None, max_examples=60)
def test_few_texts_and_many_are_judged_alike_and_as_python_does(texts: list[str], pattern: str) -> None:
    texts = [text.rstrip("\n") for text in texts]  # before a last line feed only Python's $ matches
    wanted = [re.search(pattern, text) is None for text in texts]
    assert Search(pattern).misses(texts).tolist() == wanted
    assert Search(pattern).misses([*texts, "x" * 2_000]).tolist()[: len(texts)] == wanted


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("ab(?=c)", r"has lookahead \(\(\?=\) at character 3"),
        ("(?!c)", r"has lookahead \(\(\?!\) at character 1"),
        ("a(?<=c)", r"has lookbehind \(\(\?<=\) at character 2"),
        ("a(?<!c)", r"has lookbehind \(\(\?<!\) at character 2"),
        (r"(é)\1", r"has a backreference \(\\1\) at character 4"),
        ("(?P<n>a)(?P=n)", r"has a backreference \(\(\?P\)"),
        (r"a\Z", r"\\Z, which is written \\z"),
        ("(", r"missing \)"),
        ("a{1001}", r"invalid repetition size \{1001\} at character 2"),
        ("a{4294967296}", r"has \{4294967296\} at character 2"),
        (r"\{[{,5}]a{,5}", r"has \{,5\} at character 10: write \{0,5\}"),
        (r"\pL{50}", rf"is too large.* at most {MAX_PATTERN_INSTRUCTIONS}"),
        (r"\pL{900}", rf"is too large.* at most {MAX_PATTERN_INSTRUCTIONS}"),
        ("a" * 5_000_000, f"has 5000000 characters, at most {MAX_PATTERN_CHARACTERS}"),
    ],
    ids=lambda value: value[:12],
)
def test_a_pattern_that_cannot_be_is_refused_and_says_what_is_wrong_and_where(pattern: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        check_pattern(pattern, "schema.pattern")
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize(
    "pattern", [*BACKTRACKS, r"^\p{L}+$", r"\w{1,64}", "(?i)é", r"^[^\s@]+@[^\s@]+\.[a-z]{2,}$"]
)
def test_what_people_use_is_within_the_limits(pattern: str) -> None:
    check_pattern(pattern, "schema.pattern")


def test_a_search_that_takes_too_long_in_all_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "PATTERN_SECONDS", 0.001)
    monkeypatch.setattr(patterns, "_STEPS_OF_A_SLICE", 1)
    texts = ["ab" * 16_000] * 100
    with pytest.raises(TooLarge, match="takes longer than"):
        Search("[ab]*a[ab]{900}c").misses(texts)
    with patterns.one_budget():
        search = Search("[ab]*a[ab]{900}c")
        search.misses(texts[:1])
        with pytest.raises(TooLarge):  # the values of a request share their time
            Search("b[ab]{900}c").misses(texts)


@pytest.mark.parametrize("kind", ["schema", "check"])
def test_as_many_values_as_an_enum_may_list_are_told(kind: str) -> None:
    many = tuple(range(MAX_ENUM_VALUES + 1))
    feature = Feature(id="u.x.v1", entity="u", name="x", version=1, value_type="integer", created=1, updated=1)
    with pytest.raises(RequestError, match=f"at most {MAX_ENUM_VALUES} are taken|at most 262144 are kept"):
        if kind == "check":
            make_check(feature, "c", "enum", {"values": list(many)})
        else:
            check_schema("integer", ValueSchema(enum=many))


async def test_a_pattern_of_an_earlier_version_keeps_its_feature_and_says_why_nothing_can_be_judged_by_it(
    tmp_path: Path,
) -> None:
    storage, schema = EmbeddedStorage(str(tmp_path)), ValueSchema(pattern="^(?=a)")
    kept = Feature(
        id="u.x.v1", entity="u", name="x", version=1, value_type="string", created=5, updated=5, schema=schema
    )
    check = Check(id="c", feature_id=kept.id, created=5, check_type="pattern", config={"regex": r"(a)\1"})
    storage.open()
    storage.log.commit([Registered(kept), Noted("check", check.key, msgspec.msgpack.encode(check))])
    storage.close()
    async with open_router(SETTINGS, EmbeddedStorage(str(tmp_path))) as router:
        sent = Sent([kept.id] * 2, ["ada"] * 2, ["ab", None], [None] * 2, [None] * 2)
        judged = router.judge.at_once(sent)
        assert [(fault.index, "lookahead" in fault.message) for fault in judged.faults] == [(0, True)]
        assert judged.accepted == 1
        change = FeatureChange(entity="u", name="x", value_type="string", description="only the words are new")
        with pytest.raises(InvalidInput, match=r"schema\.pattern: has lookahead"):
            await router.register(change)
        await router.write(judged, b"")
        change = FeatureChange(entity="u", name="x", value_type="string", schema=ValueSchema(pattern="^a"))
        await router.register(change)
        judged = router.judge.at_once(sent)
        assert not judged.faults
        await router.write(judged, b"")
        watch = router.monitoring.watch
        (result,) = (await watch.results(watch.checks())).values()
        assert result.finding.status == "insufficient"
        assert "a backreference" in result.finding.message
