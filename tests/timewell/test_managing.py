"""The commands that list what is registered and watched, and those that take away."""

from __future__ import annotations

import io
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.live import LiveServer
from tests.timewell.outcomes import Command, lines, refused, said

TEN, ELEVEN = "2025-11-07T10:00:00Z", "2025-11-07T11:00:00Z"


class Terminal(io.StringIO):
    """A stdin at which somebody answers."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def registered(shared_server: LiveServer, name: str) -> LiveServer:
    """A service with two versions of a feature, a composite entity type, a group and a feature service."""
    shared_server.register(name, tags=["shop"])
    shared_server.register(name, version=2, promoted=False, description="better")
    for path, body in (
        ("/entities", {"name": f"{name}_pair", "keys": ["user", "shop"], "owner": "we"}),
        ("/groups", {"name": f"{name}_group", "entity": "user", "features": [name], "tags": ["x"]}),
        (
            "/services",
            {
                "name": f"{name}_model",
                "features": [f"user.{name}", {"ref": f"user.{name}", "key": "payee", "as": "payee"}],
            },
        ),
    ):
        assert shared_server.post(path, body).status_code == 201
    return shared_server


# What is registered


def test_entity_types_are_listed_with_their_keys(timewell: Command, registered: LiveServer, name: str) -> None:
    printed = lines(timewell("entities"))
    assert printed[0] == ["NAME", "KEYS", "FEATURES", "OWNER", "DESCRIPTION"]
    assert [f"{name}_pair", "user,shop", "0", "we", "-"] in printed
    assert lines(timewell("entities", "user"))[1][:2] == ["user", "user"]
    (told,) = said(timewell("entities", f"{name}_pair", "--json"))["entities"]
    assert told["keys"] == ["user", "shop"]
    refused(timewell("entities", f"{name}_none"), 1, f"{name}_none")


def test_groups_are_listed_with_their_features(timewell: Command, registered: LiveServer, name: str) -> None:
    printed = lines(timewell("groups"))
    assert printed[0] == ["NAME", "ENTITY", "FEATURES", "TAGS", "DESCRIPTION"]
    assert [f"{name}_group", "user", name, "x", "-"] in printed
    assert said(timewell("groups", f"{name}_group", "--json"))["groups"][0]["features"] == [name]
    refused(timewell("groups", f"{name}_none"), 1, f"{name}_none")


def test_services_are_listed_and_one_is_shown_with_what_it_reads(
    timewell: Command, registered: LiveServer, name: str
) -> None:
    printed = lines(timewell("services"))
    assert printed[0] == ["ID", "FEATURES", "TAGS", "OWNER", "DESCRIPTION"]
    assert [f"{name}_model.v1", "2", "-", "-", "-"] in printed
    assert lines(timewell("services", f"{name}_model")) == [
        ["COLUMN", "FEATURE", "KEY"],
        [f"user.{name}", f"user.{name}.v1", "-"],
        ["payee", f"user.{name}.v1", "payee"],
    ]
    assert said(timewell("services", f"{name}_model.v1", "--json"))["id"] == f"{name}_model.v1"
    assert f"{name}_model.v1" in [one["id"] for one in said(timewell("services", "--json"))["services"]]
    refused(timewell("services", f"{name}_none"), 1, f"{name}_none")


def test_kept_training_sets_are_listed_shown_and_deleted(
    timewell: Command, registered: LiveServer, name: str
) -> None:
    id_ = f"user.{name}.v1"
    registered.write((id_, "ada", 1, TEN))
    body = {"name": name, "features": [id_], "spine": {"feature": id_}, "owner": "we", "description": "autumn"}
    kept = registered.post("/training-sets", body).json()
    (line,) = [line for line in lines(timewell("training-sets")) if line[0] == name]
    assert line == [name, "1", kept["knownAt"], "we", "autumn"]
    assert kept in said(timewell("training-sets", "--json"))["trainingSets"]
    assert said(timewell("training-sets", name, "--json")) == kept
    shown = lines(timewell("training-sets", name))
    assert ["spine", id_] in shown and ["feature", id_] in shown
    assert shown[3] == ["content", "hash", kept["contentHash"]]
    refused(timewell("delete", id_, "--yes"), 1, f"training set {name}", "--force")
    refused(timewell("delete", "--training-set", name), 2, f"training set {name}", "--yes")
    deleted = said(timewell("delete", "--training-set", name, "--yes", "--json"))
    assert deleted == {"deleted": {"kind": "training set", "id": name}}
    for command in (("training-sets", name), ("delete", "--training-set", name, "--yes")):
        refused(timewell(*command), 1, name)


def test_ids_are_listed_a_line_each_by_their_beginning(
    timewell: Command, registered: LiveServer, name: str
) -> None:
    feature = registered.register("f", entity=name)["id"]
    registered.write(*((feature, one, 1, TEN) for one in ("b", "a b", "ab", "a")))
    assert timewell("ids", name)[:2] == (0, "a\na b\nab\nb\n")
    code, out, _ = timewell("ids", name, "--prefix", "a", "--json")
    assert (code, [json.loads(line) for line in out.splitlines()]) == (0, ["a", "a b", "ab"])
    refused(timewell("ids", f"{name}_none"), 1, f"{name}_none")


def test_a_command_reads_what_a_group_has_pinned(timewell: Command, registered: LiveServer, name: str) -> None:
    registered.write((f"user.{name}.v1", "ada", 1, TEN), (f"user.{name}.v2", "ada", 2, TEN))
    read = ("export", "--group", f"{name}_group", "--entity-ids", "ada", "-o", "out.ndjson", "--json")
    assert said(timewell(*read))["features"] == [f"user.{name}"]
    assert registered.post(f"/features/user.{name}.v2/promote", {}).status_code == 200
    assert said(timewell(*read))["features"] == [f"user.{name}.v1"]
    assert json.loads(Path("out.ndjson").read_text())[f"user.{name}.v1"] == 1


def test_versions_tell_which_one_the_name_means(timewell: Command, registered: LiveServer, name: str) -> None:
    printed = lines(timewell("versions", f"user.{name}"))
    assert printed[0] == ["ID", "TYPE", "PROMOTED", "CREATED", "DESCRIPTION"]
    assert [line[:3] for line in printed[1:]] == [
        [f"user.{name}.v1", "number", "current"],
        [f"user.{name}.v2", "number", "no"],
    ]
    assert len(said(timewell("versions", name, "--json"))["versions"]) == 2
    refused(timewell("versions", f"user.{name}.v1"), 1, f"user.{name}.v1")


def test_a_promoted_version_is_what_the_name_means(timewell: Command, registered: LiveServer, name: str) -> None:
    refused(timewell("promote", f"user.{name}"), 1, f"user.{name}", "name one version")
    second = f"user.{name}.v2"
    assert lines(timewell("promote", second)) == [["promoted", second], [f"user.{name}", "means", second]]
    assert [line[:3:2] for line in lines(timewell("versions", name))[1:]] == [
        [f"user.{name}.v1", "yes"],
        [second, "current"],
    ]
    assert said(timewell("promote", f"user.{name}.v1", "--json"))["id"] == f"user.{name}.v1"
    assert registered.feature(name)["id"] == second


# What is watched


def test_checks_are_listed_for_all_features_and_for_one(
    timewell: Command, registered: LiveServer, name: str
) -> None:
    id_ = f"user.{name}.v1"
    registered.write((id_, "ada", 5, TEN))
    asked = {"checkType": "range", "config": {"max": 4}, "id": "sane"}
    assert registered.post(f"/features/{id_}/checks", asked).status_code == 201
    printed = lines(timewell("checks", name))
    assert printed[0] == ["FEATURE", "ID", "TYPE", "STATUS", "OBSERVED", "MESSAGE"]
    assert printed[1][:5] == [id_, "sane", "range", "failing", "1"]
    assert printed[1] in lines(timewell("checks"))
    assert said(timewell("checks", id_, "--json"))["checks"][0]["status"] == "failing"
    refused(timewell("checks", f"{name}_none"), 1, f"{name}_none")


def test_alerts_are_listed_by_their_state(timewell: Command, shared_server: LiveServer) -> None:
    assert lines(timewell("alerts", "--state", "firing")) == [["FEATURE", "CHECK", "STATE", "SINCE", "MESSAGE"]]
    assert said(timewell("alerts", "--json")) == {"alerts": []}
    code, _, err = timewell("alerts", "--state", "odd")
    assert code == 2 and "firing" in err


class Waiting(BaseHTTPRequestHandler):
    """A service that has yet to open its storage; one alert, otherwise."""

    def do_GET(self) -> None:
        alert = {"featureId": "user.f.v1", "checkId": "c", "state": "firing", "since": TEN, "message": ""}
        ready = self.path == "/health/ready"
        body = json.dumps({"status": "waiting for journal"} if ready else {"alerts": [alert]}).encode()
        self.send_response(503 if ready else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def test_health_exits_with_0_if_the_service_is_ready_and_with_1_until_then(timewell: Command) -> None:
    assert lines(timewell("health")) == [["status", "ready"]]
    assert said(timewell("health", "--json")) == {"status": "ready"}
    with ThreadingHTTPServer(("127.0.0.1", 0), Waiting) as waiting:
        Thread(target=waiting.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{waiting.server_port}"
        code, out, err = timewell("health", "--url", url)
        assert (code, out.split()) == (1, ["status", "waiting", "for", "journal"])
        assert "not ready" in err
        assert lines(timewell("alerts", "--url", url))[1] == ["user.f.v1", "c", "firing", TEN, "-"]
        waiting.shutdown()
    refused(timewell("health", "--url", "http://127.0.0.1:1"), 3, "no answer")


def test_history_has_the_observations_of_one_entity(timewell: Command, registered: LiveServer, name: str) -> None:
    id_ = f"user.{name}.v1"
    registered.write((id_, "ada", 1, TEN), (id_, "ada", None, ELEVEN), (id_, "bob", 3, TEN))
    ten, eleven = "2025-11-07T10:00:00.000Z", "2025-11-07T11:00:00.000Z"
    assert lines(timewell("history", name, "ada")) == [["TIMESTAMP", "VALUE"], [ten, "1"], [eleven, "null"]]
    assert lines(timewell("history", name, "ada", "--start", ELEVEN))[1:] == [[eleven, "null"]]
    assert lines(timewell("history", name, "ada", "--end", TEN))[1:] == [[ten, "1"]]
    code, out, err = timewell("history", name, "ada", "--order", "desc", "--limit", "1", "--json")
    assert (code, json.loads(out)["observations"]) == (0, [{"timestamp": eleven, "value": None}])
    assert "there are more" in err
    assert timewell("history", name, "ada", "--limit", "0")[0] == 2
    refused(timewell("history", f"{name}_none", "ada"), 1, f"{name}_none")


# Taking away


def test_a_feature_that_is_read_is_deleted_with_force_only(
    timewell: Command, registered: LiveServer, name: str
) -> None:
    id_ = f"user.{name}.v1"
    words = (f"group {name}_group", f"service {name}_model.v1", "--force")
    refused(timewell("delete", id_, "--yes"), 1, id_, *words)
    refused(timewell("delete", f"user.{name}", "--yes"), 1, "name one version", id_)
    assert lines(timewell("delete", f"user.{name}.v2", "--yes")) == [["deleted", "feature", f"user.{name}.v2"]]
    assert said(timewell("delete", id_, "--force", "--yes", "--json")) == {
        "deleted": {"kind": "feature", "id": id_}
    }
    refused(timewell("delete", id_, "--yes"), 1, id_)
    assert registered.get(f"/features/{id_}").status_code == 404


def test_groups_services_and_entity_types_are_deleted_by_name(
    timewell: Command, registered: LiveServer, name: str
) -> None:
    for form, path in (("group", "groups"), ("service", "services"), ("entity-type", "entities")):
        thing = {"group": f"{name}_group", "service": f"{name}_model.v1", "entity-type": f"{name}_pair"}[form]
        refused(timewell("delete", f"--{form}", f"{name}_none", "--yes"), 1, f"{name}_none")
        assert lines(timewell("delete", f"--{form}", thing, "--yes"))[0][-1] == thing
        assert registered.get(f"/{path}/{thing}").status_code == 404
    refused(timewell("delete", "--entity-type", "user", "--yes"), 1, "user", "delete them first")
    assert registered.feature(name)["version"] == 1
    assert timewell("delete", name, "--group", name)[0] == timewell("delete")[0] == 2
    refused(timewell("delete", "--group", name, "--force"), 2, "--force")


def test_nothing_is_taken_away_before_somebody_means_it(
    timewell: Command, registered: LiveServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = f"user.{name}.v2"
    registered.write((id_, "ada", 1, TEN))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    refused(timewell("delete", id_), 2, id_, "--yes")
    refused(timewell("erase", "user", "ada"), 2, "user ada", "--yes")
    monkeypatch.setattr(sys, "stdin", Terminal("n\n\n"))
    for arguments in (["delete", id_], ["erase", "user", "ada"]):
        code, out, err = timewell(*arguments)
        assert (code, out) == (1, "")
        assert err.endswith("[y/N] timewell: nothing was done\n")
    assert len(said(timewell("history", id_, "ada", "--json"))["observations"]) == 1
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    code, out, _ = timewell("delete", id_)
    assert (code, out.split()) == (0, ["deleted", "feature", id_])


def test_erasing_tells_how_many_observations_each_entity_had(
    timewell: Command, registered: LiveServer, name: str
) -> None:
    id_, ada, bob = f"user.{name}.v1", f"{name}_ada", f"{name}_bob"
    registered.write((id_, ada, 1, TEN), (id_, ada, 2, ELEVEN), (id_, bob, 3, TEN))
    printed = lines(timewell("erase", "user", ada, f"{name}_nobody", "--yes"))
    assert printed[0] == ["ENTITY", "OBSERVATIONS", "FEATURES", "RECEIPT"]
    assert [line[:3] for line in printed[1:]] == [[ada, "2", "1"], [f"{name}_nobody", "0", "0"]]
    assert said(timewell("history", id_, ada, "--json"))["observations"] == []
    (told,) = said(timewell("erase", "user", bob, "--yes", "--json"))["erased"]
    assert (told["entityId"], told["deleted"]) == (bob, {"observations": 1, "features": 1})
    refused(timewell("erase", f"{name}_none", "x", "--yes"), 1, f"{name}_none")
    code, out, err = timewell("erase", "user", ada, "a\nb", "--yes")
    assert (code, out) == (1, "")
    assert "1 before it" in err
