"""`timewell register`: a file is checked as a whole, told with lines, and registered whole or not at all."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.live import LiveServer
from tests.timewell.outcomes import Command, lines, refused, said

SPEC = """\
entities:
  - {name: NAME_pair, keys: [user, shop], tags: [x]}
features:
  - {name: NAME, entity: user, valueType: number, schema: {min: 0}, tags: [shop], maxAge: 7d}
  - name: NAME_country
    entity: user
    valueType: string
    schema: {enum: ["no", "yes"]}
  - {name: NAME, entity: user, valueType: number, version: 2, promoted: false}
  - {name: visits, entity: NAME_pair, valueType: integer}
groups:
  - {name: NAME_group, entity: user, features: [NAME, NAME_country]}
services:
  - name: NAME_model
    owner: we
    features:
      - user.NAME
      - {ref: user.NAME, key: payee, as: payee}
      - NAME_pair.visits
"""
KINDS = ("entities", "features", "groups", "services")


def outcomes(answer: Any) -> list[tuple[str, str]]:
    return [(one["id"], one["outcome"]) for kind in KINDS for one in answer[kind]]


def test_register_brings_the_service_to_what_the_file_says(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    Path("features.yaml").write_text(SPEC.replace("NAME", name))
    made = [
        ("entity", f"{name}_pair"),
        ("feature", f"user.{name}.v1"),
        ("feature", f"user.{name}_country.v1"),
        ("feature", f"user.{name}.v2"),
        ("feature", f"{name}_pair.visits.v1"),
        ("group", f"{name}_group"),
        ("service", f"{name}_model.v1"),
    ]
    planned = lines(timewell("register", "-f", "features.yaml", "--dry-run"))
    assert planned == [["KIND", "ID", "WOULD", "BE"], *([*one, "created"] for one in made)]
    assert lines(timewell("register", "-f", "features.yaml")) == [
        ["KIND", "ID", "OUTCOME"],
        *([*one, "created"] for one in made),
    ]
    again = said(timewell("register", "-f", "features.yaml", "--json"))
    assert outcomes(again) == [(id_, "unchanged") for _, id_ in made]
    service = shared_server.get(f"/services/{name}_model").json()
    assert [one["ref"] for one in service["features"]] == [
        f"user.{name}.v1",
        f"user.{name}.v1",
        f"{name}_pair.visits.v1",
    ]


def test_a_dry_run_tells_which_fields_would_change(timewell: Command, name: str) -> None:
    Path("features.yaml").write_text(SPEC.replace("NAME", name))
    timewell("register", "-f", "features.yaml")
    changed = SPEC.replace("NAME", name).replace("min: 0", "min: 1").replace("owner: we", "owner: they")
    Path("features.yaml").write_text(changed)
    for _ in range(2):  # it changes nothing, so the second is told the same
        told = said(timewell("register", "-f", "features.yaml", "--dry-run", "--json"))
        assert told["features"][0] == {
            "id": f"user.{name}.v1",
            "outcome": "updated",
            "changes": [{"field": "schema", "before": {"min": 0}, "after": {"min": 1}}],
        }
        assert told["services"][0]["changes"] == [{"field": "owner", "before": "we", "after": "they"}]
    printed = lines(timewell("register", "-f", "features.yaml", "--dry-run"))
    assert printed[0] == ["KIND", "ID", "WOULD", "BE", "CHANGES"]
    assert ["service", f"{name}_model.v1", "updated", "owner:", "we", "->", "they"] in printed
    registered = said(timewell("register", "-f", "features.yaml", "--json"))
    assert [what for _, what in outcomes(registered)].count("updated") == 2
    assert said(timewell("features", "--q", f"user.{name}.v1", "--json"))["features"][0]["schema"] == {"min": 1}


def test_register_takes_a_list_of_all_kinds_in_json_from_stdin(
    timewell: Command, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [
        {"name": f"{name}_model", "features": [name]},
        {"name": f"{name}_group", "entity": "user", "features": [name]},
        {"name": name, "entity": "user", "valueType": "number", "schema": {"max": 1e3}},
        {"name": f"{name}_pair", "keys": ["a", "b"]},
    ]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(given).encode())))
    answer = said(timewell("register", "-f", "-", "--json"))
    assert [what for _, what in outcomes(answer)] == ["created"] * 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("features: [{name: f, entity: user, valueType: number, valueTyp: 5}]", ["features[0].valueTyp"]),
        ("features: [{name: f, entity: user, valueType: colour}]", ["features[0].valueType", "colour"]),
        ("features: [{name: f, entity: user}]", ["features[0].valueType: is required"]),
        ("[{name: f, entity: user, features: 5}]", [":1: [0].features"]),
        ("fetures: []", ["bad.yaml:1: fetures: is none of"]),
        ("features: {}", ["bad.yaml:1: features: is not a list"]),
        ("features: [", ["neither YAML nor JSON"]),
        ("[]", ["nothing to register"]),
        ("features: []", ["nothing to register"]),
        ("", ["nothing to register"]),
        (
            "groups: [{name: a, entity: user, features: []}]\n\ngroups: []",
            ["bad.yaml:1: groups: is given again in line 3"],
        ),
        ("[{name: a, keys: [a, b],\n name: b}]", ["bad.yaml:1: [0].name: is given again in line 2"]),
        (
            "features: [{name: f, name: f, entity: user, valueType: number}]",
            ["features[0].name: is given again in line 1"],
        ),
        ("five", ["found str"]),
        ("features: [five]", ["features[0]: expected fields, found str"]),
        ("features: [{name: 1f, entity: user, valueType: number}]", ["features[0].name", "1f"]),
        ("groups: [{name: g, entity: user, features: [none_such]}]", ["groups[0].features[0]", "none_such"]),
        ("services: [{name: s, features: [{ref: none_such, kee: x}]}]", ["services[0].features[0]", "kee"]),
        ('[\t{"name": "f", "keys": []}]', ["bad.yaml:1: [0].keys", "from 1 to"]),
    ],
)
def test_register_names_what_is_wrong_with_the_file(timewell: Command, text: str, words: list[str]) -> None:
    Path("bad.yaml").write_text(text)
    refused(timewell("register", "-f", "bad.yaml"), 1, "bad.yaml", *words)


def test_all_that_is_wrong_is_told_with_its_line_and_nothing_is_registered(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    shared_server.register(f"{name}_old", "string")
    text = SPEC.replace("user.NAME\n", "user.none_such\n").replace("integer", "integer, maxAge: soon")
    text += "  - {name: NAME_model, features: [NAME_old]}\n"
    text += "  - name: NAME_other\n    features:\n      - NAME_pair.visits\n      - NAME_pair.none\n"
    Path("bad.yaml").write_text(text.replace("NAME", name))
    code, out, err = timewell("register", "-f", "bad.yaml")
    assert (code, out) == (1, "")
    told = [line.removeprefix("timewell: bad.yaml:").split(": ")[:2] for line in err.splitlines()]
    assert told == [
        ["10", "features[3].maxAge"],
        ["17", "services[0].features[0]"],
        ["20", "services[1]"],
        ["24", "services[2].features[1]"],
        [" 4 errors; nothing was registered"],
    ]
    assert said(timewell("features", "--q", f"{name}.", "--json")) == {"features": []}


def test_what_only_the_service_finds_is_told_beside_what_the_file_itself_shows(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    shared_server.register(f"{name}_old", "string")
    Path("bad.yaml").write_text(
        f"""
features:
  - {{name: {name}_old, entity: user, valueType: number, tag: x}}
  - {{name: {name}_gone, entity: user, valueType: colour}}
  - {{name: {name}_new, entity: user, valueType: number, maxAge: soon}}
groups:
  - {{name: {name}_one, entity: user, features: [{name}_gone]}}
  - {{name: {name}_two, entity: user, features: [none_such, {name}_new]}}
services:
  - {{name: {name}_model, features: [user.{name}_gone.v1], owner: 5}}
  - {{name: {name}_other, features: [user.{name}_new, user.none]}}
"""
    )
    code, out, err = timewell("register", "-f", "bad.yaml")
    told = [line.removeprefix("timewell: bad.yaml:").split(": ")[:2] for line in err.splitlines()]
    assert (code, out) == (1, "")
    assert told == [
        ["3", "features[0].tag"],
        ["3", "features[0]"],
        ["4", "features[1].valueType"],
        ["5", "features[2].maxAge"],
        ["8", "groups[1].features[0]"],
        ["10", "services[0].owner"],
        ["11", "services[1].features[1]"],
        [" 7 errors; nothing was registered"],
    ]
    assert said(timewell("features", "--q", f"{name}_new", "--json")) == {"features": []}


def test_a_file_with_faults_is_told_of_without_a_service_too(timewell: Command) -> None:
    Path("bad.yaml").write_text("features: [{name: f, entity: user, valueType: colour}]")
    away = ["--url", "http://127.0.0.1:1"]
    refused(timewell("register", "-f", "bad.yaml", *away), 1, "features[0].valueType", "colour")


def test_every_field_that_is_wrong_is_told_at_once(timewell: Command, name: str) -> None:
    Path("bad.yaml").write_text(
        SPEC.replace("NAME", name).replace("maxAge: 7d", "maxage: 7d").replace("tags: [x]", "tags: x")
        + "  - {name: 5}\n"
    )
    code, _, err = timewell("register", "-f", "bad.yaml", "--dry-run")
    told = [line.removeprefix("timewell: bad.yaml:").split(": ")[:2] for line in err.splitlines()]
    assert (code, told[:-1]) == (
        1,
        [
            ["2", "entities[0].tags"],
            ["4", "features[0].maxage"],
            ["20", "services[1].name"],
            ["20", "services[1]"],
        ],
    )
    assert said(timewell("features", "--q", name, "--json")) == {"features": []}


def test_a_key_that_is_given_twice_is_refused(timewell: Command, name: str) -> None:
    text = f"features:\n  - name: {name}\n    entity: user\n    valueType: number\n    name: {name}_b\n"
    Path("twice.yaml").write_text(text)
    refused(
        timewell("register", "-f", "twice.yaml"), 1, "twice.yaml:2: features[0].name: is given again in line 5"
    )
    recursive = "features: &a\n  - *a\n"
    Path("round.yaml").write_text(recursive)
    assert timewell("register", "-f", "round.yaml")[0] == 1
