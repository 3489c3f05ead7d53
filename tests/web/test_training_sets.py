"""Training sets that are kept: the same rows again, byte for byte, whatever arrives later."""

from __future__ import annotations

from hashlib import sha256
from typing import Any
from urllib.parse import quote

import pytest

from actors.settings import IDS_READ_AT_ONCE
from tests.live import LiveServer
from tests.web.test_errors import problem
from tests.web.test_training_rows import ELEVEN, NOON, TEN, House
from web.answers.lanes import ARROW_TYPE, CSV_TYPE, NDJSON_TYPE
from web.bodies.requests import JSON_TYPE

OVER_EVERY_STORE = True
FORMS = [JSON_TYPE, NDJSON_TYPE, CSV_TYPE, ARROW_TYPE]


@pytest.fixture
def house(shared_server: LiveServer) -> House:
    return House(shared_server)


def keep(house: House, **asked: Any) -> dict[str, Any]:
    answer = house.server.post("/training-sets", {"name": f"{house.user}_set", **asked})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def rows(house: House, name: str, form: str = JSON_TYPE) -> bytes:
    answer = house.server.http.get(f"/training-sets/{name}/rows", headers={"Accept": form})
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.mark.parametrize("given", ["spine", "rows", "by row"])
def test_a_kept_training_set_has_the_same_bytes_after_late_data_corrections_and_new_versions(
    house: House, given: str
) -> None:
    wanted = [f"{house.user}.spend", {"ref": house.risk, "as": "risk"}, {"ref": house.visits, "lookback": "90m"}]
    asked: dict[str, Any] = {"spine": {"feature": house.visits}}
    if given != "spine":
        asked = {"rows": [house.row("u1", "s9", TEN, label=1), house.row("u2", "s9", NOON, label=0)]}
    if given == "by row":
        asked["knownAt"] = "row"
    made = keep(house, features=wanted, **asked)
    assert made["rows"] == 2
    before = {form: rows(house, made["name"], form) for form in FORMS}
    assert made["contentHash"] == sha256(before[NDJSON_TYPE]).hexdigest()
    second = house.server.register("spend", entity=house.user, version=2)["id"]
    house.server.write(
        (house.spend, "u1", 99, TEN),
        (house.spend, "u1", 98, ELEVEN),
        (second, "u1", 97, TEN),
        (house.visits, '["u1","s9"]', 96, ELEVEN),
        (house.visits, '["u2","s9"]', 95, NOON),
        (house.risk, "s9", 94, TEN),
    )
    assert {form: rows(house, made["name"], form) for form in FORMS} == before
    now = house.ask([house.spend], rows=[house.row("u1", "s9", TEN)])
    assert now[0][house.spend] == 99, "what is asked for anew has them"


def test_its_definition_is_pinned_and_tells_what_it_was_made_of(house: House) -> None:
    service = {"name": f"{house.user}_model", "features": [house.spend, house.visits]}
    assert house.server.post("/services", service).status_code == 201
    made = keep(house, service=service["name"], spine={"feature": house.visits}, description="pairs", tags=["a"])
    assert [one["ref"] for one in made["definition"]["features"]] == [house.spend, house.visits]
    assert (made["description"], made["tags"]) == ("pairs", ["a"])
    assert house.server.get(f"/training-sets/{made['name']}").json() == made
    assert made in house.server.get("/training-sets").json()["trainingSets"]
    assert house.server.http.delete(f"/services/{service['name']}.v1").status_code == 204
    assert b'"results":[{' in rows(house, made["name"])


def test_a_feature_that_a_training_set_reads_is_deleted_by_force_alone(house: House) -> None:
    made = keep(house, features=[house.spend], spine={"feature": house.spend})
    told = problem(house.server.http.delete(f"/features/{house.spend}"), 409)
    assert made["name"] in told["detail"]
    house.server.delete_feature(house.spend)
    told = problem(house.server.get(f"/training-sets/{made['name']}/rows"), 404)
    assert house.spend in told["detail"]
    assert house.server.http.delete(f"/training-sets/{made['name']}").status_code == 204
    problem(house.server.get(f"/training-sets/{made['name']}"), 404)
    problem(house.server.http.delete(f"/training-sets/{made['name']}"), 404)


@pytest.mark.parametrize("what", ["a column", "the spine"])
def test_a_training_set_stays_refused_though_another_feature_has_the_id_of_a_deleted_one(
    house: House, what: str
) -> None:
    made = keep(house, features=[house.spend], spine={"feature": house.visits})
    gone = house.spend if what == "a column" else house.visits
    assert house.server.get(f"/features/{gone}").json()["usedBy"]["trainingSets"] == [made["name"]]
    assert made["name"] in problem(house.server.http.delete(f"/features/{gone}"), 409)["detail"]
    house.server.delete_feature(gone)
    entity, name, _ = gone.split(".")
    house.server.register(name, entity=entity, value_type="string")
    told = problem(house.server.get(f"/training-sets/{made['name']}/rows"), 404)
    assert gone in told["detail"] and made["name"] in told["detail"]
    assert house.server.get(f"/features/{gone}").json()["usedBy"].get("trainingSets") is None
    assert house.server.http.delete(f"/features/{gone}").status_code == 204, "it is not what the set reads"


def test_a_maximum_age_that_a_feature_gets_later_changes_no_kept_training_set(house: House) -> None:
    made = keep(house, features=[house.spend, house.visits], spine={"feature": house.visits})
    before = rows(house, made["name"])
    entity, name, _ = house.spend.split(".")
    house.server.register(name, entity=entity, maxAge="1s")
    assert rows(house, made["name"]) == before
    asked = house.ask([house.spend, house.visits], rows=[house.row("u1", "s9", NOON)])
    assert asked[0][house.spend] is None, "what is asked for anew has it"


def erase(house: House, entity_type: str, entity: str) -> None:
    answer = house.server.http.delete(f"/entities/{entity_type}/{quote(entity)}")
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("given", ["spine", "rows", "one id"])
def test_a_training_set_of_which_an_entity_has_been_erased_is_gone_and_does_not_name_it(
    house: House, given: str
) -> None:
    features, asked = [house.spend, house.visits], dict[str, Any](spine={"feature": house.visits})
    if given == "rows":
        asked = {"rows": [house.row("u1", "s9", TEN, label=1), house.row("u2", "s9", NOON, label=0)]}
    if given == "one id":
        asked = {"rows": [{"entityId": one, "timestamp": NOON} for one in ("u1", "u2")]}
        features = [house.spend]
    made = keep(house, features=features, **asked)
    rows(house, made["name"])
    erase(house, house.shop, "s9")
    rows(house, made["name"])
    erase(house, house.user, "u1")
    for form in FORMS:
        answer = house.server.http.get(f"/training-sets/{made['name']}/rows", headers={"Accept": form})
        assert made["name"] in problem(answer, 410)["detail"]
    left = house.server.get(f"/training-sets/{made['name']}").json()
    assert [row.get(house.user, row.get("entityId")) for row in left["definition"].get("rows", [])] == (
        [] if given == "spine" else ["u2"]
    )
    asked = {**left["definition"], "knownAt": left["knownAt"]}
    assert house.server.post("/features/training-set", asked).status_code == 200, "what is left"


def test_the_rows_of_a_pair_that_has_been_erased_go_from_its_training_sets(house: House) -> None:
    visits = {"ref": house.visits, "key": {house.user: "payer"}, "as": "visits"}
    given = [{"payer": user, house.shop: "s9", "timestamp": NOON} for user in ("u1", 7)]
    made = keep(house, features=[visits], rows=given)
    erase(house, house.pair, '["7","s9"]')
    problem(house.server.get(f"/training-sets/{made['name']}/rows"), 410)
    assert house.server.get(f"/training-sets/{made['name']}").json()["definition"]["rows"] == given[:1]


def test_a_training_set_whose_history_is_past_its_retention_is_gone(house: House) -> None:
    made = keep(house, features=[house.spend], spine={"feature": house.visits})
    entity, name, _ = house.spend.split(".")
    house.server.register(name, entity=entity, retention={"age": "1d"})
    told = problem(house.server.get(f"/training-sets/{made['name']}/rows"), 410)
    assert "retention.age" in told["detail"]


def test_a_training_set_of_many_lots_is_the_same_and_gone_once_one_row_is(house: House) -> None:
    house.server.write(*((house.spend, f"many {number}", number, TEN) for number in range(IDS_READ_AT_ONCE)))
    made = keep(house, features=[house.spend], spine={"feature": house.spend})
    assert made["rows"] == IDS_READ_AT_ONCE + 4
    for form in FORMS:
        assert len(rows(house, made["name"], form)) > IDS_READ_AT_ONCE
    assert sha256(rows(house, made["name"], NDJSON_TYPE)).hexdigest() == made["contentHash"]
    erase(house, house.user, "many 17")
    problem(house.server.get(f"/training-sets/{made['name']}/rows"), 410)


def test_what_cannot_be_kept_is_refused(house: House) -> None:
    asked: dict[str, Any] = {"features": [house.spend], "spine": {"feature": house.spend}}
    keep(house, **asked)
    problem(house.server.post("/training-sets", {"name": f"{house.user}_set", **asked}), 409)
    problem(house.server.post("/training-sets", {"name": "a b", **asked}), 400)
    problem(house.server.post("/training-sets", {"name": f"{house.user}_no", "features": [house.spend]}), 400)
    problem(house.server.post("/training-sets", {"name": f"{house.user}_no", **asked, "features": ["no.f"]}), 404)
    many = [house.row(f"user {number}", "s9", TEN) for number in range(6_000)]
    told = problem(
        house.server.post("/training-sets", {"name": f"{house.user}_no", "features": [house.spend], "rows": many}),
        413,
    )
    assert "spine" in told["detail"]
