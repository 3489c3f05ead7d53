"""An address that is mistyped is refused with a reason, and no message has a password in it."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import httpx
import pytest
import trio

from actors.errors import StartupError
from actors.monitoring import webhook as module
from actors.monitoring.webhook import Webhook
from actors.opening import make_storage
from actors.settings import from_environment
from actors.storage.shared.address import check_address
from tests.live import LiveServer
from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyServer
from web.cli import main

SECRET = "hunter2"
MISTYPED = [
    "{s}//me:hunter2@db/x",
    "{s}:/me:hunter2@db/x",
    "{s}:me:hunter2@db/x",
    "x{s}://me:hunter2@db/x",
    "http://me:hunter2@db/x",
    "me:hunter2@db/x",
    "{s}://me:hunter2@db:port/x",
    "{s}://me:hunter2@db:99999/x",
    "{s}://me:hunter2@db:/hunter2:x/@",
    "{s}://me:hunter2@db: 5432/x",
    "{s}://me:hun ter2hunter2@db/x",
    "{s}://me:hunter2%zz@db/x",
    "{s}://me:hunter2%@db/x",
    "{s}://me:hunter2@@db/x",
    "{s}://me:a@hunter2@db/x",
    "{s}://me:a/hunter2@db/x",
    "{s}://me:a#hunter2@db/x",
    "{s}://me:a?hunter2@db/x",
    "{s}://me:a[hunter2@db/x",
    "{s}://me:hunter2@[::1/x",
    "{s}://me:hunter2@::1/x",
    "{s}://me:hunter2",
    "{s}://:hunter2",
    "{s}://me:hunter2db:5432:x",
    "{s}://a:hunter2:1,b:2/x",
    "{s}://me:hunter2@db/x?nonsense=hunter2",
    "{s}://me:hunter2@db/x?hunter2",
    "{s}://me:hunter2@db/x\n",
]


@pytest.mark.parametrize("kind", ["postgresql", "redis"])
@pytest.mark.parametrize("mistyped", MISTYPED)
def test_a_mistyped_address_is_refused_at_the_start_without_a_word_of_it(kind: str, mistyped: str) -> None:
    url = mistyped.format(s=kind)
    for given in ({"STORAGE_URL": url}, {}):
        flags = None if given else {"storage_url": url}
        if kind == "redis" and mistyped.endswith("?hunter2"):
            continue  # which is an option without a value, and none for redis-py
        with pytest.raises(StartupError) as refused:
            make_storage(from_environment({"STORAGE_TYPE": kind, **given}, flags))
        assert SECRET not in refused.value.detail and "STORAGE_URL is not what" in refused.value.detail


def test_an_address_may_have_any_sign_in_it_that_is_encoded(
    valkey: ValkeyServer, postgres: PostgresServer
) -> None:
    password = "p%25%40%2F%3A%23%3F%5B"
    for where in (f"127.0.0.1:{postgres.port}", f"[::1]:1,127.0.0.1:{postgres.port}"):
        check_address(f"postgresql://me:{password}@{where}/x?sslmode=prefer", ("postgresql",), "PostgreSQL")
    options = "user=default password='p w'"
    make_storage(from_environment({"STORAGE_TYPE": "postgresql", "STORAGE_URL": f"host=db {options}"}))
    with valkey.client() as client:
        client.acl_setuser("me", enabled=True, passwords=["+p%@/:#?["], categories=["+@all"], keys=["*"])
        url = f"redis://me:{password}@127.0.0.1:{valkey.port}/0"
        storage = make_storage(from_environment({"STORAGE_TYPE": "redis", "STORAGE_URL": url}))
        storage.open()
        storage.close()
        client.acl_deluser("me")


@pytest.mark.parametrize("option", ["sslmode", "target_session_attrs", "keepalives"])
def test_an_option_of_a_value_that_it_does_not_have_is_named_at_once(
    option: str, postgres: PostgresServer
) -> None:
    url = f"postgresql://127.0.0.1:{postgres.port}/x?{option}={SECRET}"
    storage = make_storage(from_environment({"STORAGE_TYPE": "postgresql", "STORAGE_URL": url}))
    with pytest.raises(StartupError) as refused:
        storage.open()
    assert SECRET not in refused.value.detail
    assert (
        f"STORAGE_URL is not what PostgreSQL takes: {option} cannot have the value given" in refused.value.detail
    )


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--storage-type", "redis://me:hunter2@db"], {}),
        (["--webhook-url", "htp://me:hunter2@hook"], {}),
        ([], {"WEBHOOK_URL": "http://hook/hunter2 x"}),
        (["--port", "redis://me:hunter2@db"], {}),
    ],
)
def test_what_the_command_prints_of_a_mistyped_address_has_no_password(
    arguments: list[str],
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["serve", *arguments]) == 1
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err and re.search("[A-Z]+_(URL|TYPE)|PORT", said.err)


@pytest.mark.parametrize("url", ["http://me:hunter2@127.0.0.1:1/hunter2?t=hunter2", "http://h:hunter2@x:y/"])
async def test_a_webhook_that_cannot_be_reached_is_logged_without_its_address(
    url: str, caplog: pytest.LogCaptureFixture, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    hook = Webhook(url, "")
    hook.post({"id": "1"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hook.run)
        while "gave up" not in caplog.text:
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert SECRET not in caplog.text


@pytest.mark.parametrize("kind", ["postgresql", "redis"])
def test_a_server_that_refuses_connections_is_503_long_before_the_time_for_an_answer(
    tmp_path: Path, kind: str
) -> None:
    server = PostgresServer() if kind == "postgresql" else ValkeyServer("--appendfsync", "always")
    with server:
        url = server.url() if isinstance(server, PostgresServer) else server.url
        settings = {"STORAGE_TYPE": kind, "STORAGE_URL": url, "STORAGE_TIMEOUT_SECONDS": "600"}
        with LiveServer(tmp_path, **settings) as one:
            one.register("clicks")
            server.stop(signal.SIGKILL if kind == "redis" else signal.SIGQUIT)
            for _ in range(2):  # the tests' client waits for 30 s at most
                asked = {"entityIds": ["u"], "features": ["clicks"]}
                assert one.post("/features/serve", asked).status_code == 503
                body = {"featureId": "clicks", "entityId": "u", "value": 1}
                assert one.post("/features/write", body).status_code == 503
                assert one.get("/features/unknown").status_code == 503
            while ready(one) != 503:  # it is looked at four times a second
                pass
            server.start()
            while ready(one) != 200:
                pass
            assert one.post("/features/write", body).status_code == 200


def ready(server: LiveServer) -> int:
    return httpx.get(f"{server.url}/health/ready").status_code


def test_a_password_that_was_changed_is_503_and_right_again_with_the_old_one(tmp_path: Path) -> None:
    with ValkeyServer() as valkey, valkey.client() as client:
        client.config_set("requirepass", SECRET)
        client.auth(SECRET)
        url = f"redis://:{SECRET}@127.0.0.1:{valkey.port}/0"
        with LiveServer(tmp_path, STORAGE_TYPE="redis", STORAGE_URL=url, STORAGE_TIMEOUT_SECONDS="600") as one:
            one.register("clicks")
            client.config_set("requirepass", "another")
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            answer = one.get("/features/unknown")
            assert answer.status_code == 503 and SECRET not in answer.text
            while ready(one) != 503:
                pass
            client.config_set("requirepass", SECRET)
            while ready(one) != 200:
                pass
            assert one.get("/features/clicks").status_code == 200
            assert one.stop() == 0 and SECRET not in one.log
