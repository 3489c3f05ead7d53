"""A bit that has flipped on the disk is never served: an answer is right, or 503, or no process starts."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

import actors.storage.embedded.filed
from actors.domain import FeatureChange, ValueType
from actors.errors import Damaged, StartupError, Unavailable
from actors.ingest.sent import Sent
from actors.monitoring.checks import make_check
from actors.opening import open_router
from actors.router import Router
from actors.serving import Span
from actors.settings import Settings
from actors.storage.embedded import layout
from actors.storage.embedded.checking import check
from actors.storage.embedded.journal_file import _COLUMNS, Journal
from actors.storage.embedded.on_disk import EmbeddedStorage
from actors.storage.embedded.sqlite_log import need_whole
from actors.storage.embedded.summaries import EmbeddedSummaries
from actors.timestamps import FOREVER, NEVER, parse_timestamp
from tests.actors.service import read_as
from web.app import create_app
from web.cli import main

NOW = parse_timestamp("2025-11-07T10:00:00Z")
HOUR = 3_600_000_000
FEATURES = ("user.clicks.v1", "user.city.v1", "item.price.v1")
ENTITIES = [f"e{n}" for n in range(12)]


def settings(directory: Path, cache: int = 1_000_000) -> Settings:
    return Settings(data_dir=str(directory), checkpoint_seconds=1e6, monitor_seconds=1e6, cache_size=cache)


def at(hour: int) -> str:
    return f"2025-11-{1 + hour // 24:02}T{hour % 24:02}:00:00Z"


async def fill(router: Router, first: int, last: int) -> None:
    """A value of each feature and entity in each hour, a batch an hour."""
    for hour in range(first, last):
        ids, entities, values = [], [], list[Any]()
        for feature in FEATURES:
            for place, entity in enumerate(ENTITIES):
                ids.append(feature)
                entities.append(entity)
                values.append(f"city {hour} {place}" if "city" in feature else hour + place / 100)
        sent = Sent(ids, entities, values, [at(hour)] * len(ids), [None] * len(ids))
        await router.write(router.judge.at_once(sent), b"done", f"key {hour}")


async def asked(question: Callable[..., Awaitable[Any]], *of: Any) -> Any:
    """The answer, or None where it is refused."""
    try:
        return await question(*of)
    except Unavailable:
        return None


async def answers(router: Router) -> dict[str, Any]:
    """What the directory says, by question."""
    found: dict[str, Any] = {}
    all_time = Span(NEVER, FOREVER)
    for id_ in FEATURES:
        feature = router.registry.resolve(id_)
        for entity in ENTITIES[::4]:
            found[f"latest {id_} {entity}"] = await asked(read_as, router, NOW, [entity], id_)
            for hour in (3, 30):
                moment = parse_timestamp(at(hour))
                grid = await asked(router.latest, [entity], router.registry.select([id_]), moment)
                found[f"past {id_} {entity} {hour}"] = grid and grid.values[0][0].tolist()
            page = await asked(router.observations, entity, feature, all_time, 1_000, False)
            found[f"scan {id_} {entity}"] = page and (page.times.tolist(), page.values.tolist())
        answer = await asked(router.aggregate, ENTITIES, feature, "count", all_time)
        found[f"count {id_}"] = answer and answer.values.tolist()
        whole = await asked(router.statistics, feature)
        found[f"statistics {id_}"] = whole and (whole.count, whole.last_updated)
        part = await asked(router.statistics, feature, parse_timestamp(at(2)), parse_timestamp(at(33)))
        found[f"period {id_}"] = part and part.count
        found[f"vitals {id_}"] = await asked(router.monitoring.watch.vitals, [feature])
    for hour in (1, 39):
        found[f"repeat {hour}"] = await asked(router.repeated, f"key {hour}")
    return found


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@asynccontextmanager
async def service(directory: Path, storage: EmbeddedStorage | None = None) -> AsyncIterator[Router]:
    """The three features over a directory."""
    async with open_router(settings(directory), storage, now=lambda: NOW) as router:
        for id_ in FEATURES:
            entity, name, _ = id_.split(".")
            kind: ValueType = "string" if name == "city" else "number"
            await router.register(FeatureChange(entity=entity, name=name, value_type=kind))
        yield router


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    """Twenty hours in two history files, twenty more in the journal."""
    made = tmp_path / "data"
    async with open_router(settings(made), now=lambda: NOW) as router:
        for entity, name, kind in (
            ("user", "clicks", "number"),
            ("user", "city", "string"),
            ("item", "price", "number"),
        ):
            await router.register(FeatureChange(entity=entity, name=name, value_type=kind))  # type: ignore[arg-type]
        for first in (0, 10):
            await fill(router, first, first + 10)
            await router.checkpointer.checkpoint()
        await fill(router, 20, 40)
    return made


async def write_city(router: Router, value: str, time: str) -> None:
    await router.write(router.judge.at_once(Sent(["user.city.v1"], ["a"], [value], [time], [None])), b"done")


async def write_clicks(router: Router, value: float, time: str) -> None:
    await router.write(router.judge.at_once(Sent(["user.clicks.v1"], ["a"], [value], [time], [None])), b"done")


async def past(router: Router, hour: int, entity: str = "a") -> list[Any]:
    """Where it was."""
    feature = router.registry.resolve("user.city.v1")
    grid = await router.latest([entity], router.registry.select([feature.id]), parse_timestamp(at(hour)))
    return list(grid.values[0][0])


KINDS = {
    "history": "history/run=*/*.parquet",
    "log": "history/_delta_log/*.json",
    "journal": "journal.db",
    "statistics": "monitor.db",
}


async def outcome(directory: Path, cache: int) -> dict[str, Any] | str:
    """The answers, or why it does not start."""
    try:
        async with open_router(settings(directory, cache), now=lambda: NOW) as router:
            return await answers(router)
    except StartupError as error:
        return error.detail


@pytest.mark.parametrize("kind", KINDS)
async def test_a_flipped_bit_is_never_served(directory: Path, tmp_path: Path, kind: str) -> None:
    truth = await outcome(directory, 1_000_000)
    assert isinstance(truth, dict) and None not in truth.values()
    seen = await flips(directory, tmp_path, kind, range(FLIPS), truth)
    assert seen["right"] + seen["refused"] > 0
    assert seen["refused"] + seen["not started"] > 0 or kind == "log"


FLIPS = 7


async def flips(directory: Path, tmp_path: Path, kind: str, seeds: range, truth: dict[str, Any]) -> dict[str, int]:
    seen = {"right": 0, "refused": 0, "not started": 0, "answers": 0, "refusals": 0}
    for seed in seeds:
        choose = random.Random(f"{kind} {seed}")
        copy = tmp_path / "copy"
        shutil.copytree(directory, copy)
        path = choose.choice(sorted(copy.glob(KINDS[kind])))
        bit = choose.randrange(path.stat().st_size * 8)
        flip(path, bit)
        found = await outcome(copy, choose.choice([1, 1_000_000]))
        shutil.rmtree(copy)
        if isinstance(found, str):
            assert path.name in found or "history" in found, found
            seen["not started"] += 1
            continue
        wrong = {name: answer for name, answer in found.items() if answer is not None and answer != truth[name]}
        assert not wrong, (path.name, bit, wrong)
        refusals = sum(answer is None for answer in found.values())
        seen["refused" if refusals else "right"] += 1
        seen["answers"] += len(found)
        seen["refusals"] += refusals
    return seen


def flip_in(path: Path, text: bytes) -> None:
    """A bit of the last place where some bytes stand in a file."""
    place = path.read_bytes().rindex(text)
    flip(path, 8 * place + 3)


async def metrics(client: Any) -> str:
    return str(await (await client.get("/metrics")).get_data(as_text=True))


async def test_a_batch_that_is_damaged_is_named_and_the_rest_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = tmp_path / "data"
    async with service(made) as router:
        await write_city(router, "here", at(1))
        await write_city(router, "a place that is damaged", at(5))
        await write_city(router, "there", at(9))
        await write_clicks(router, 1.0, at(5))
        for id_ in ("user.city.v1", "user.clicks.v1"):
            check = make_check(router.registry.resolve(id_), "c", "null", {"maxNullRate": 0.5})
            await router.monitoring.watch.put_check(check)
    flip_in(made / "journal.db", b"place that is")
    for _ in range(2):
        async with service(made) as router:
            assert router.damaged() and "user.city.v1 from 2025-11-01T05:00:00.000Z" in caplog.text
            city = router.registry.resolve("user.city.v1")
            assert await read_as(router, NOW, ["a"], city.id) == ["there"]
            assert await read_as(router, NOW, ["a"], "user.clicks.v1") == [1.0]
            with pytest.raises(Damaged, match=r"user\.city\.v1 from 2025-11-01T05"):
                await past(router, 7)
            assert await past(router, 2) == ["here"]
            with pytest.raises(Damaged, match="statistics lack"):
                await router.statistics(city)
            clicks = router.registry.resolve("user.clicks.v1")
            assert (await router.statistics(clicks)).count == 1
            await router.monitoring.schedule.tick()
            assert len(await router.monitoring.watch.results(router.monitoring.watch.checks(clicks))) == 1
            with pytest.raises(Damaged, match="statistics lack"):
                await router.monitoring.watch.results(router.monitoring.watch.checks(city))
            client = create_app(router, settings(made)).test_client()
            checks = (await (await client.get("/checks")).get_json())["checks"]
            assert [check["status"] for check in checks] == ["insufficient", "passing"]
            assert "statistics lack" in checks[0]["message"]
            freshness = (await (await client.get("/monitor/freshness")).get_json())["features"]
            ages = {one["featureId"]: one["eventAgeSeconds"] is not None for one in freshness}
            assert ages == {"item.price.v1": False, "user.city.v1": False, "user.clicks.v1": True}
            assert ["message" in one for one in freshness] == [False, True, False]
            assert 'timewell_feature_age_seconds{feature="user.clicks.v1"}' in await metrics(client)
            for path in ("checks", "stats"):
                assert (await client.get(f"/features/user.city.v1/{path}")).status_code == 503
                assert (await client.get(f"/features/user.clicks.v1/{path}")).status_code == 200
            await router.checkpointer.checkpoint()
            assert router.unflushed == 0
            await write_city(router, "there", at(9))
        caplog.clear()


async def test_a_history_file_that_is_damaged_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.storage.embedded.filed, "RUNS_BEFORE_COMPACTION", 1)
    made = tmp_path / "data"
    async with service(made) as router:
        await write_city(router, "old", at(1))
        await router.checkpointer.checkpoint()
    (file,) = made.glob("history/run=*/*.parquet")
    flip(file, 8 * (file.stat().st_size // 2))
    damaged = file.read_bytes()
    storage = EmbeddedStorage(str(made))
    async with service(made, storage) as router:
        for hour in (5, 6, 7):
            await write_city(router, f"new {hour}", at(hour))
            await router.checkpointer.checkpoint()
        assert file.read_bytes() == damaged
        assert len(storage._runs.runs()) == 2
        assert await read_as(router, NOW, ["a"], "user.city.v1") == ["new 7"]
        with pytest.raises(Damaged, match=file.name):
            await past(router, 2)
        with pytest.raises(Unavailable, match="not yet gone"):
            await router.erase("user", "a")
        assert await read_as(router, NOW, ["b"], "user.clicks.v1") == [None]
    assert file.read_bytes() == damaged


async def test_commits_that_a_damaged_log_would_have_passed_over_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, killed = tmp_path / "data", tmp_path / "killed"
    async with service(made) as router:
        await write_city(router, "here", at(1))
        await write_city(router, "a place that is damaged", at(5))
        await write_city(router, "there", at(9))
        shutil.copytree(made, killed)
    log = killed / "journal.db-wal"
    whole = log.read_bytes()
    for bit in (*range(0, 8 * 32, 17), 8 * whole.index(b"place that is") + 3, 8 * whole.index(b"here") + 1):
        flip(log, bit)
        with pytest.raises(StartupError, match=r"journal\.db-wal is damaged between bytes"):
            async with service(killed):
                pass
        assert main(["check-data", str(killed)]) == 1
        assert f"{log} is damaged between bytes" in capsys.readouterr().out
        log.write_bytes(whole)
    for torn in (whole[:-1], whole[:-4_000] + bytes(4_000), whole + whole[-4_000:]):
        log.write_bytes(torn)
        need_whole(log)
    async with service(killed) as router:
        assert await past(router, 7) == ["a place that is damaged"]


async def test_a_bit_that_makes_a_schema_no_text_is_damage_like_any_other(directory: Path) -> None:
    for name in ("monitor.db", "journal.db"):
        data = (directory / name).read_bytes()
        flip(directory / name, 8 * data.index(b"TABLE") + 7)
    journal = (directory / "journal.db").read_bytes()
    with pytest.raises(StartupError, match=r"journal\.db is damaged"):
        async with service(directory):
            pass
    flip(directory / "journal.db", 8 * journal.index(b"\xd4ABLE") + 7)
    async with service(directory) as router:
        assert await read_as(router, NOW, ["e0"], "user.clicks.v1") == [39.0]
        with pytest.raises(Damaged, match=r"monitor\.db"):
            await router.statistics(router.registry.resolve("user.clicks.v1"))


async def test_opening_what_a_killed_process_left_writes_nothing(tmp_path: Path) -> None:
    made, killed = tmp_path / "data", tmp_path / "killed"
    async with service(made) as router:
        await write_city(router, "here", at(1))
        await router.checkpointer.checkpoint()
        shutil.copytree(made, killed)
    for name in ("journal.db", "monitor.db"):
        before = (killed / f"{name}-wal").read_bytes()
        opened = Journal(str(killed / name)) if name == "journal.db" else EmbeddedSummaries(str(killed / name))
        opened.open()
        assert (killed / f"{name}-wal").read_bytes() == before
        assert opened.rows("PRAGMA auto_vacuum") == [(2,)]
        opened.close()


async def test_check_data_names_what_is_damaged_and_changes_nothing(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}

    assert main(["check-data", str(directory)]) == 0
    assert "is as it was written" in capsys.readouterr().out
    flip_in(directory / "journal.db", b"city 39 7")
    file = min(directory.glob("history/run=*/*.parquet"))
    flip(file, 8 * (file.stat().st_size // 2))
    flip_in(next(directory.glob("history/_delta_log/*0.json")), b"parquet")
    before = contents()
    assert main(["check-data", str(directory)]) == 1
    said = capsys.readouterr()
    assert "damaged in 3 places" in said.err
    journal, history, log = said.out.splitlines()
    assert "journal.db" in journal and "user.city.v1 from 2025-11-02T15:00:00.000Z" in journal
    assert file.name in history and "item.price.v1" in history
    assert "_delta_log" in log
    assert contents() == before
    assert main(["check-data", str(directory / "nowhere")]) == 1
    async with open_router(settings(directory), now=lambda: NOW):
        assert main(["check-data", str(directory)]) == 1
    assert "in use by process" in capsys.readouterr().err


async def test_a_directory_without_checksums_opens_and_has_them_from_then_on(directory: Path) -> None:
    truth = await outcome(directory, 1)
    for name, tables in (("journal.db", [*_COLUMNS, "batches"]), ("monitor.db", ["windows"])):
        unsealed(directory / name, tables)
    assert await outcome(directory, 1) == truth
    flip_in(directory / "journal.db", b"city 39 7")
    file = min(directory.glob("history/run=*/*.parquet"))
    flip(file, 8 * (file.stat().st_size // 2))
    assert main(["check-data", str(directory)]) == 1
    found = await outcome(directory, 1)
    assert isinstance(found, dict) and isinstance(truth, dict)
    assert found["scan user.city.v1 e0"] is None and found["latest user.clicks.v1 e0"] is None
    assert all(answer in (None, truth[name]) for name, answer in found.items())


def unsealed(path: Path, tables: list[str]) -> None:
    """A database as the version before wrote it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for table in tables:
            if table in ("files", "log", "lost"):
                database.execute(f"DROP TABLE {table}")
                continue
            (made,) = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            kept = ", ".join(name for name in columns if name not in ("seal", "held"))
            database.execute(f"ALTER TABLE {table} RENAME TO sealed")
            database.execute(made.replace(", seal INTEGER NOT NULL", "").replace(", held BLOB NOT NULL", ""))
            database.execute(f"INSERT INTO {table} SELECT {kept} FROM sealed")
            database.execute("DROP TABLE sealed")
        rows = database.execute("SELECT key, value FROM meta WHERE key != 'history_metadata'").fetchall()
        database.execute("DROP TABLE meta")
        database.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID")
        database.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        database.execute("UPDATE meta SET value = 1 WHERE key = 'format'")


async def test_a_journal_that_has_gone_back_behind_its_history_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, cut = tmp_path / "data", tmp_path / "cut"
    sizes = []
    async with service(made) as router:
        sizes.append((made / "journal.db-wal").stat().st_size)
        for hour in (1, 5):
            await write_city(router, f"city {hour}", at(hour))
            sizes.append((made / "journal.db-wal").stat().st_size)
            await router.checkpointer.checkpoint()
        await write_city(router, "city 9", at(9))
        shutil.copytree(made, tmp_path / "killed")
    for size in sizes[:2]:
        shutil.copytree(tmp_path / "killed", cut)
        os.truncate(cut / "journal.db-wal", size)
        files = {path: path.read_bytes() for path in cut.glob("history/**/*.*")}
        for _ in range(2):
            with pytest.raises(StartupError, match=r"journal\.db has lost .* `timewell check-data`"):
                async with service(cut):
                    pass
        assert {path: path.read_bytes() for path in cut.glob("history/**/*.*")} == files
        assert main(["check-data", str(cut)]) == 1
        assert "journal.db has lost" in capsys.readouterr().out
        assert main(["check-data", str(cut), "--forget-damaged", "--yes"]) == 0
        assert main(["check-data", str(cut)]) == 0
        aside = {path.name for path in cut.glob("damaged/*/run=*/*.parquet")}
        assert aside == {path.name for path in files if path.match("run=*/*.parquet")}
        async with service(cut) as router:
            await write_city(router, "new", at(10))
            await router.checkpointer.checkpoint()
            assert await read_as(router, NOW, ["a"], "user.city.v1") == ["new"]
        shutil.rmtree(cut)


async def test_a_history_without_its_journal_is_left_for_a_backup(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "journal.db").unlink()
    files = sorted(directory.glob("history/run=*/*.parquet"))
    with pytest.raises(StartupError, match=r"journal\.db has lost"):
        async with service(directory):
            pass
    assert main(["check-data", str(directory), "--forget-damaged", "--yes"]) == 1
    assert "only a backup helps here" in capsys.readouterr().err
    assert sorted(directory.glob("history/run=*/*.parquet")) == files


async def test_a_checkpoint_that_was_cut_off_is_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, killed = tmp_path / "data", tmp_path / "killed"
    async with service(made) as router:
        for hour in (1, 5):
            await write_city(router, f"city {hour}", at(hour))
            with monkeypatch.context() as patched:
                patched.setattr(Journal, "set_history", lambda *_: shutil.copytree(made, killed) and 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    await router.checkpointer.checkpoint()
            assert main(["check-data", str(killed)]) == 0
            async with service(killed) as again:
                assert await read_as(again, NOW, ["a"], "user.city.v1") == [f"city {hour}"]
                await again.checkpointer.checkpoint()
            shutil.rmtree(killed)
            await router.checkpointer.checkpoint()


async def test_a_history_file_that_is_gone_is_damage_like_any_other(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(actors.storage.embedded.filed, "RUNS_BEFORE_COMPACTION", 1)
    truth = await outcome(directory, 1)
    assert isinstance(truth, dict)
    gone = min(directory.glob("history/run=*/*.parquet"))
    gone.unlink()
    for cache in (1, 1_000_000):
        found = await outcome(directory, cache)
        assert isinstance(found, dict)
        assert found["past user.city.v1 e0 3"] is None and found["scan user.city.v1 e0"] is None
        assert found["past user.city.v1 e0 30"] == truth["past user.city.v1 e0 30"]
        assert all(answer in (None, truth[name]) for name, answer in found.items())
    async with service(directory) as router:
        assert any(gone.name in words for words in router.damaged())
        with pytest.raises(Damaged, match=gone.name):
            await past(router, 3, "e0")
        await write_city(router, "new", at(41))
        await router.checkpointer.checkpoint()
        await write_city(router, "newer", at(42))
        await router.checkpointer.checkpoint()
        assert await read_as(router, NOW, ["a"], "user.city.v1") == ["newer"]
    assert main(["check-data", str(directory)]) == 1
    assert gone.name in capsys.readouterr().out
    assert main(["check-data", str(directory), "--forget-damaged", "--yes"]) == 0
    assert main(["check-data", str(directory)]) == 0
    async with service(directory) as router:
        assert await past(router, 3, "e0") == [None] and not router.damaged()


async def test_a_history_file_that_goes_while_it_is_used_is_named(directory: Path) -> None:
    storage = EmbeddedStorage(str(directory))
    async with open_router(settings(directory, 1), storage, now=lambda: NOW) as router:
        gone = min(directory.glob("history/run=*/*.parquet"))
        gone.unlink()
        with pytest.raises(Damaged, match=gone.name):
            await past(router, 3, "e0")
        assert any(gone.name in words for words in router.damaged())


@pytest.mark.parametrize("kind", ["truncated", "features", "log"])
async def test_a_journal_that_cannot_be_opened_is_named_with_the_way_out(
    directory: Path, tmp_path: Path, kind: str
) -> None:
    path = directory / "journal.db"
    if kind == "truncated":
        os.truncate(path, path.stat().st_size * 2 // 3)
    elif kind == "features":
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("UPDATE features SET record = record || x'00'")
    else:
        async with service(directory) as router:
            await write_city(router, "a place that is damaged", at(50))
            await write_city(router, "there", at(51))
            shutil.copytree(directory, tmp_path / "killed")
        directory = tmp_path / "killed"
        wal = directory / "journal.db-wal"
        flip(wal, 8 * wal.read_bytes().index(b"place that is") + 3)
    with pytest.raises(StartupError) as refused:
        async with service(directory):
            pass
    assert str(directory / "journal.db") in refused.value.detail
    assert refused.value.detail.count("restore a backup, or see what is left by `timewell check-data`") == 1


@pytest.mark.parametrize("column", ["record", "seal"])
async def test_a_history_file_whose_note_is_damaged_is_refused_and_the_rest_goes_on(
    directory: Path, column: str
) -> None:
    truth = await outcome(directory, 1)
    assert isinstance(truth, dict)
    with closing(sqlite3.connect(directory / "journal.db", isolation_level=None)) as database:
        doubtful = database.execute("SELECT min(path) FROM files").fetchone()[0]
        value = "record || x'00'" if column == "record" else "seal + 1"
        database.execute(f"UPDATE files SET {column} = {value} WHERE path = ?", (doubtful,))
    log = directory / "history" / "_delta_log" / f"{0:020}.json"
    whole = log.read_bytes()
    flip_in(log, b'"add"')
    assert "nor does their log tell it" in str(await outcome(directory, 1))
    assert len(check(directory)) == 1
    log.write_bytes(whole)
    for cache in (1, 1_000_000):
        found = await outcome(directory, cache)
        assert isinstance(found, dict)
        assert found["past user.city.v1 e0 3"] is None
        assert found["past user.city.v1 e0 30"] == truth["past user.city.v1 e0 30"]
        assert all(answer in (None, truth[name]) for name, answer in found.items())
    async with service(directory) as router:
        assert any(doubtful in words and "cannot be verified" in words for words in router.damaged())
        await write_city(router, "new", at(41))
        await router.checkpointer.checkpoint()
    assert (directory / "history" / doubtful).exists()
    (words,) = check(directory)
    assert doubtful in words and f"from {at(0)[:-1]}" in words and "(360 observations)" in words
    assert main(["check-data", str(directory), "--forget-damaged", "--yes"]) == 0
    assert check(directory) == []
    async with service(directory) as router:
        assert await past(router, 3, "e0") == [None] and not router.damaged()
        assert await read_as(router, NOW, ["a"], "user.city.v1") == ["new"]


async def test_a_damaged_note_of_a_file_that_was_replaced_loses_nothing(directory: Path) -> None:
    storage = EmbeddedStorage(str(directory))
    storage.open()
    storage.history._replace(runs := storage._runs.runs(), layout.merge_tables([run.table() for run in runs]))
    storage.close()
    truth = await outcome(directory, 1)
    with closing(sqlite3.connect(directory / "journal.db", isolation_level=None)) as database:
        database.execute("UPDATE files SET seal = seal + 1 WHERE path = (SELECT min(path) FROM files)")
    assert await outcome(directory, 1) == truth
    (words,) = check(directory)
    assert "not used any more" in words
    assert main(["check-data", str(directory), "--forget-damaged", "--yes"]) == 0
    assert check(directory) == [] and await outcome(directory, 1) == truth


async def test_statistics_that_have_gone_back_behind_the_journal_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, cut = tmp_path / "data", tmp_path / "cut"
    async with service(made) as router:
        await write_city(router, "here", at(1))
        await router.checkpointer.checkpoint()
        size = (made / "monitor.db-wal").stat().st_size
        for hour in (5, 6):
            await write_city(router, "there", at(hour))
            await router.checkpointer.checkpoint()
        shutil.copytree(made, cut)
    os.truncate(cut / "monitor.db-wal", size)
    for _ in range(2):
        async with service(cut) as router:
            city = router.registry.resolve("user.city.v1")
            with pytest.raises(Damaged, match=r"monitor\.db has lost commits"):
                await router.statistics(city)
            assert await past(router, 7) == ["there"] and router.damaged()
            await write_city(router, "there", at(5))
            await router.checkpointer.checkpoint()
    assert main(["check-data", str(cut)]) == 1
    assert "monitor.db has lost commits" in capsys.readouterr().out
    assert main(["check-data", str(cut), "--forget-damaged", "--yes"]) == 0
    assert main(["check-data", str(cut)]) == 0
    async with service(cut) as router:
        await write_city(router, "there", at(9))
        assert (await router.statistics(city)).count == 2
        await router.checkpointer.checkpoint()
    assert main(["check-data", str(cut)]) == 0 and main(["check-data", str(made)]) == 0
