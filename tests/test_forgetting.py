"""`timewell check-data --forget-damaged`: what is damaged is set aside and said, and the rest is served."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

import actors.storage.embedded.runs
from actors.errors import Damaged
from actors.opening import open_router
from actors.storage.embedded import delta, forgetting
from actors.storage.embedded.checking import check
from actors.storage.embedded.forgetting import forget
from actors.storage.embedded.journal_file import Journal
from actors.storage.embedded.on_disk import EmbeddedStorage
from actors.storage.embedded.runs import DeltaRuns
from actors.storage.embedded.sqlite_log import find_damage
from tests.actors.service import read_as
from tests.test_damage import (
    KINDS,
    NOW,
    answers,
    at,
    directory,
    flip,
    flip_in,
    outcome,
    past,
    service,
    settings,
    write_city,
    write_clicks,
)
from web.cli import main

__all__ = ["directory"]


def contents(directory: Path) -> dict[Path, bytes]:
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def is_lost(name: str, answer: Any, truth: Any) -> bool:
    """Whether an answer is what the truth becomes when something of it was never written."""
    if answer == truth:
        return True
    if name.startswith("scan"):
        pairs, all_pairs = zip(*answer, strict=True), set(zip(*truth, strict=True))
        return set(pairs) <= all_pairs
    if name.startswith("count"):
        return all((mine or 0) <= whole for mine, whole in zip(answer, truth, strict=True))
    return name.startswith(("latest", "past", "statistics", "period", "vitals", "repeat"))


@pytest.mark.parametrize("kind", KINDS)
async def test_after_forgetting_nothing_is_refused_and_nothing_is_wrong(
    directory: Path, tmp_path: Path, kind: str
) -> None:
    truth = await outcome(directory, 1_000_000)
    assert isinstance(truth, dict)
    for seed in range(3):
        choose = random.Random(f"forget {kind} {seed}")
        copy = tmp_path / "copy"
        shutil.copytree(directory, copy)
        path = choose.choice(sorted(copy.glob(KINDS[kind])))
        flip(path, choose.randrange(path.stat().st_size * 8))
        before = contents(copy)
        found = check(copy)
        if main(["check-data", str(copy), "--forget-damaged", "--yes"]) == 1:
            assert kind == "journal" and contents(copy) == before, found
        else:
            assert check(copy) == []
            told = await outcome(copy, choose.choice([1, 1_000_000]))
            assert isinstance(told, dict) and (found or told == truth)
            wrong = {name: told[name] for name in truth if not is_lost(name, told[name], truth[name])}
            assert not wrong, (path, found, wrong)
        shutil.rmtree(copy)


async def test_without_yes_it_says_what_would_be_lost_and_changes_nothing(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_in(directory / "journal.db", b"city 39 7")
    file = min(directory.glob("history/run=*/*.parquet"))
    flip(file, 8 * (file.stat().st_size // 2))
    before = contents(directory)
    assert main(["check-data", str(directory), "--forget-damaged"]) == 1
    said = capsys.readouterr()
    journal, history = said.out.splitlines()
    assert "user.city.v1 from 2025-11-02T15:00:00.000Z" in journal and "(36 observations)" in journal
    assert file.name in history and "(360 observations)" in history
    assert "damaged in 2 places; nothing has been changed: with --yes" in said.err
    assert contents(directory) == before
    assert main(["check-data", str(directory), "--yes"]) == 2
    async with open_router(settings(directory), now=lambda: NOW):
        assert main(["check-data", str(directory), "--forget-damaged", "--yes"]) == 1
    assert "in use by process" in capsys.readouterr().err
    assert not (directory / "damaged").exists()


async def test_what_is_forgotten_answers_as_empty_lies_aside_and_is_told_at_each_start(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    truth = await outcome(directory, 1)
    assert isinstance(truth, dict)
    flip_in(directory / "journal.db", b"city 39 7")
    file = min(directory.glob("history/run=*/*.parquet"))
    flip(file, 8 * (file.stat().st_size // 2))
    damaged = file.read_bytes()
    words, aside = forget(directory)
    assert aside is not None and (aside / file.parent.name / file.name).read_bytes() == damaged
    assert not file.exists() and (aside / "journal.db").exists()
    assert (aside / "lost.txt").read_text().splitlines() == words and len(words) == 2
    for _ in range(2):
        caplog.clear()
        async with service(directory) as router:
            assert router.damaged() == []
            said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
            assert all(any(one in message for message in said) for one in words)
            found = await answers(router)
            times, _ = found["scan user.city.v1 e0"]
            assert times == truth["scan user.city.v1 e0"][0][10:39]
            assert found["past item.price.v1 e0 3"] != truth["past item.price.v1 e0 3"]
            assert await past(router, 3, "e0") == [None]
            assert found["past item.price.v1 e0 30"] == truth["past item.price.v1 e0 30"]
            assert found["statistics item.price.v1"][0] == truth["statistics item.price.v1"][0] - 12
            await write_city(router, "new", at(41))
            await router.checkpointer.checkpoint()
            assert await read_as(router, NOW, ["a"], "user.city.v1") == ["new"]
    shutil.rmtree(directory / "damaged")
    caplog.clear()
    async with service(directory):
        assert "forgotten" not in caplog.text


async def test_the_sound_row_groups_of_a_damaged_file_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.storage.embedded.runs, "ROW_GROUP_ROWS", 1)
    made = tmp_path / "data"
    big = [f"{hour}" + random.Random(hour).randbytes(30_000).hex() for hour in range(12)]
    async with service(made) as router:
        for hour, value in enumerate(big):
            await write_city(router, value, at(hour))
        await router.checkpointer.checkpoint()
    (file,) = made.glob("history/run=*/*.parquet")
    flip(file, 8 * (file.stat().st_size // 2))
    words, _ = forget(made)
    assert 2 <= len(words) <= 4 and all("(1 observation)" in one for one in words)
    lost = [hour for hour in range(12) if any(f"from {at(hour)[:-1]}" in one for one in words)]
    assert len(lost) == len(words) and 0 not in lost and 11 not in lost
    async with service(made) as router:
        for hour in range(12):
            assert await past(router, hour) == [big[min(lost) - 1 if hour in lost else hour]]


async def test_a_log_with_damage_ends_before_it(tmp_path: Path) -> None:
    made, killed = tmp_path / "data", tmp_path / "killed"
    async with service(made) as router:
        await write_city(router, "here", at(1))
        await write_city(router, "a place that is damaged", at(5))
        await router.checkpointer.checkpoint()
        await write_clicks(router, 1.0, at(9))
        shutil.copytree(made, killed)
    log = killed / "journal.db-wal"
    flip(log, 8 * log.read_bytes().index(b"place that is") + 3)
    (history,) = killed.glob("history/run=*/*.parquet")
    newest, wrong = history.read_bytes(), find_damage(log)
    assert wrong is not None and wrong.commits >= 3
    words, aside = forget(killed)
    assert aside is not None and f"in {wrong.commits} commits" in words[0]
    async with service(killed) as router:
        assert await past(router, 7) == ["here"]
        assert await read_as(router, NOW, ["a"], "user.clicks.v1") == [None]
        await write_clicks(router, 2.0, at(9))
        await router.checkpointer.checkpoint()
    assert (aside / history.parent.name / history.name).read_bytes() == newest


async def test_a_log_that_has_all_that_is_registered_is_left_for_a_backup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, killed = tmp_path / "data", tmp_path / "killed"
    async with service(made) as router:
        await write_city(router, "here", at(1))
        shutil.copytree(made, killed)
    flip(killed / "journal.db-wal", 8 * 17)
    before = contents(killed)
    assert main(["check-data", str(killed), "--forget-damaged", "--yes"]) == 1
    assert "only a backup helps here" in (said := capsys.readouterr().err) and "every feature" in said
    assert contents(killed) == before


async def test_statistics_that_are_damaged_begin_anew(directory: Path) -> None:
    path = directory / "monitor.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE windows SET state = x'00' WHERE feature = 'user.city.v1'")
    (words,), _ = forget(directory)
    assert "statistics of user.city.v1" in words
    async with service(directory) as router:
        assert (await router.statistics(router.registry.resolve("user.city.v1"))).count == 20 * 12
        assert (await router.statistics(router.registry.resolve("user.clicks.v1"))).count == 40 * 12
    path.write_bytes(b"SQLite format 3\0" + bytes(4_000))
    (words,), _ = forget(directory)
    assert "all statistics" in words
    async with service(directory) as router:
        assert (await router.statistics(router.registry.resolve("user.clicks.v1"))).count == 20 * 12


async def test_idempotency_keys_that_are_damaged_are_known_no_more(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "journal.db", isolation_level=None)) as database:
        database.execute("UPDATE answers SET answer = x'00' WHERE key = 'key 1'")
    async with service(directory) as router:
        with pytest.raises(Damaged):
            await router.repeated("key 39")
    forget(directory)
    async with service(directory) as router:
        assert await router.repeated("key 39") == b"done"
        assert await router.repeated("key 1") is None


async def test_killed_between_any_two_steps_it_goes_on_from_there(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_all(directory)
    states = tmp_path / "states"
    states.mkdir()
    work = tmp_path / "work"
    shutil.copytree(directory, work)
    with monkeypatch.context() as patched:
        watch(patched, lambda: shutil.copytree(work, states / f"{len(list(states.iterdir())):03}"))
        forget(work)
    truth = await outcome(work, 1)
    assert isinstance(truth, dict) and None not in truth.values() and check(work) == []
    kinds, seen = set(), list[dict[Path, bytes]]()
    for state in sorted(states.iterdir()):
        now = {path: data for path, data in contents(state).items() if path.parts[0] != "damaged"}
        if now in seen:
            continue
        seen.append(now)
        found = check(state)
        kinds.add(len(found))
        aside = {path.name for path in state.glob("damaged/*/run=*/*")}
        forget(state)
        assert await outcome(state, 1) == truth
        assert {path.name for path in state.glob("damaged/*/run=*/*")} >= aside
        assert len(list(state.glob("damaged/*/run=*/*.parquet"))) >= 1
    assert kinds == {1, 2, 3, 4}


def damage_all(directory: Path) -> None:
    flip_in(directory / "journal.db", b"city 39 7")
    file = min(directory.glob("history/run=*/*.parquet"))
    flip(file, 8 * (file.stat().st_size // 2))
    flip_in(next(directory.glob("history/_delta_log/*0.json")), b"parquet")
    with closing(sqlite3.connect(directory / "monitor.db", isolation_level=None)) as database:
        database.execute("UPDATE windows SET state = x'00' WHERE feature = 'user.city.v1'")


def watch(patched: pytest.MonkeyPatch, seen: Callable[[], object]) -> None:
    """Hear of each moment before something is changed for good."""
    for place, name in (
        (forgetting, "_kept"),
        (forgetting, "_cut"),
        (forgetting, "_forget_statistics"),
        (forgetting, "_go_by"),
        (Journal, "set_history"),
        (Journal, "forget_lost"),
        (DeltaRuns, "sum_up"),
        (DeltaRuns, "adopt"),
        (delta, "sync"),
        (Path, "unlink"),
    ):
        patched.setattr(place, name, heard(getattr(place, name), seen))


def heard(original: Callable[..., Any], seen: Callable[[], object]) -> Callable[..., Any]:
    def called(*arguments: Any, **options: Any) -> Any:
        seen()
        return original(*arguments, **options)

    return called


async def test_a_bit_of_the_tables_log_is_noticed_and_the_log_written_anew(
    directory: Path, tmp_path: Path
) -> None:
    truth = await outcome(directory, 1)
    copy = tmp_path / "copy"
    summed_up = tmp_path / "summed up"
    shutil.copytree(directory, summed_up)
    shutil.rmtree(log_of(summed_up))
    assert await outcome(summed_up, 1) == truth
    names = {path.name for made in (directory, summed_up) for path in log_of(made).iterdir()}
    assert "_last_checkpoint" in names and len(names) == 5
    for made in (directory, summed_up):
        for path in sorted(log_of(made).iterdir()):
            for share in (0.02, 0.3, 0.5, 0.9):
                shutil.copytree(made, copy)
                flip(log_of(copy) / path.name, int(8 * path.stat().st_size * share) + 1)
                (words,) = check(copy)
                assert "_delta_log" in words and "has no values" in words, (path, share)
                shutil.rmtree(copy)
    shutil.copytree(directory, copy)
    flip_in(log_of(copy) / f"{0:020}.json", b"numRecords")
    assert main(["check-data", str(copy), "--forget-damaged", "--yes"]) == 0
    assert check(copy) == [] and await outcome(copy, 1) == truth
    assert rows_for_others(copy) == rows_for_others(directory)
    async with service(copy) as router:
        await write_city(router, "new", at(41))
        await router.checkpointer.checkpoint()
    assert check(copy) == [] and rows_for_others(copy) == rows_for_others(directory) + 721


async def test_a_log_that_is_gone_is_written_anew_at_the_start(directory: Path) -> None:
    truth, rows = await outcome(directory, 1), rows_for_others(directory)
    shutil.rmtree(log_of(directory))
    assert ["_delta_log" in words for words in check(directory)] == [True]
    assert await outcome(directory, 1) == truth
    assert check(directory) == [] and rows_for_others(directory) == rows


async def test_a_log_that_was_written_before_it_had_checksums_is_looked_at_as_far_as_can_be(
    directory: Path,
) -> None:
    with closing(sqlite3.connect(directory / "journal.db", isolation_level=None)) as database:
        database.execute("DROP TABLE log")
    truth = await outcome(directory, 1)
    assert isinstance(truth, dict) and None not in truth.values()
    assert check(directory) == []
    flip_in(log_of(directory) / f"{0:020}.json", b"minValues")
    assert len(check(directory)) == 1
    forget(directory)
    assert check(directory) == [] and await outcome(directory, 1) == truth


async def test_a_log_that_was_being_shortened_when_the_process_was_killed_is_sound(directory: Path) -> None:
    storage = EmbeddedStorage(str(directory))
    storage.open()
    storage.history._vacuum(1)
    storage.close()
    first, second = (log_of(directory) / f"{version:020}.json" for version in range(2))
    first.unlink()
    assert check(directory) == []
    (log_of(directory) / f"{1:020}.checkpoint.parquet").unlink()
    assert len(check(directory)) == 1 and second.exists()


def log_of(directory: Path) -> Path:
    return directory / "history" / "_delta_log"


def rows_for_others(directory: Path) -> int:
    """How many rows the Delta library finds."""
    return int(DeltaTable(directory / "history").to_pyarrow_table().num_rows)
