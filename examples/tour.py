"""A tour of a running service: fills it with a small shop and calls its main routes.

    make serve                            # in another terminal
    make demo                             # or: .venv/bin/python examples/tour.py --url http://127.0.0.1:3001

It may be run again: the load has an Idempotency-Key, registering again only updates, and what it deletes it has
made before.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import httpx

URL = "http://127.0.0.1:3001"
PATIENCE_SECONDS = 20.0
"""How long to wait for a service that is starting."""
REFERENCES = ["purchase_amount", "purchase_count_7d"]
WIDTH, LINES, ITEMS, CHARACTERS = 100, 16, 2, 72
"""Bounds on what is shown of a body."""

# The shop: what 200 users bought in the 30 days before this midnight; the same all day, from a fixed seed

USERS = [f"user{number:03}" for number in range(1, 201)]
SOME = USERS[:3]
CATEGORIES = ("books", "garden", "kitchen", "music", "toys")
DAYS = 30
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
BEGAN = MIDNIGHT - timedelta(days=DAYS)

FEATURES = [
    {"name": name, "valueType": value_type, "description": about, **rest}
    for name, value_type, about, rest in (
        ("purchase_amount", "number", "Price in euros", {"schema": {"min": 0, "nullable": False}}),
        ("purchase_count_7d", "integer", "Purchases within the 7 days up to this one", {"schema": {"min": 0}}),
        ("last_category", "string", "What was bought last", {"schema": {"enum": CATEGORIES}, "maxAge": "7d"}),
        ("is_member", "boolean", "Whether the user is in the loyalty programme", {}),
        ("last_purchase", "timestamp", "When something was bought last", {}),
        ("taste", "vector", "Share of each category so far", {"schema": {"dimension": len(CATEGORIES)}}),
        ("basket", "json", "The articles of the last purchase", {}),
    )
]
CHECKOUT = ("purchase_amount", "purchase_count_7d", "last_category", "is_member")


def rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def observations() -> list[dict[str, Any]]:
    """All purchases, as values to write."""
    chance = random.Random(2025)
    return [value for user in USERS for value in _of_user(user, chance)]


def _of_user(user: str, chance: random.Random) -> Iterator[dict[str, Any]]:
    """The purchases of a user, and for half of the users whether they are members."""
    if chance.random() < 0.5:
        yield _observation(user, "is_member", chance.random() < 0.6, BEGAN)
    offsets = sorted(chance.uniform(0, DAYS * 86_400) for _ in range(chance.randint(1, 12)))
    moments = [BEGAN + timedelta(milliseconds=round(offset * 1_000)) for offset in offsets]
    bought = [0] * len(CATEGORIES)
    for index, moment in enumerate(moments):
        category = chance.randrange(len(CATEGORIES))
        bought[category] += 1
        week = sum(moment - earlier <= timedelta(days=7) for earlier in moments[: index + 1])
        for name, value in _of_purchase(category, bought, moment, chance).items():
            yield _observation(user, name, value, moment)
        yield _observation(user, "purchase_count_7d", week, moment)


def _of_purchase(category: int, bought: list[int], moment: datetime, chance: random.Random) -> dict[str, Any]:
    """The values of the user after a purchase."""
    articles = [
        {"article": f"{CATEGORIES[category]}-{chance.randint(1, 99)}", "pieces": chance.randint(1, 3)}
        for _ in range(chance.randint(1, 3))
    ]
    return {
        "purchase_amount": round(chance.lognormvariate(3.5, 0.8), 2),
        "last_category": CATEGORIES[category],
        "last_purchase": rfc3339(moment),
        "taste": [round(count / sum(bought), 3) for count in bought],
        "basket": articles,
    }


def _observation(user: str, name: str, value: Any, moment: datetime) -> dict[str, Any]:
    return {"featureId": f"user.{name}.v1", "entityId": user, "value": value, "timestamp": rfc3339(moment)}


# Requests and answers


class Surprise(Exception):
    """An unexpected answer."""


def trimmed(value: Any) -> Any:
    """The value with long lists and texts cut, saying how much is left out."""
    if isinstance(value, dict):
        return {key: trimmed(item) for key, item in value.items()}
    if isinstance(value, list):
        if len(value) <= ITEMS + 1 or all(isinstance(item, int | float) for item in value):
            return [trimmed(item) for item in value]
        return [*map(trimmed, value[:ITEMS]), f"... {len(value) - ITEMS:,} more"]
    if isinstance(value, str) and len(value) > CHARACTERS:
        return value[:CHARACTERS] + "..."
    return value


def laid_out(value: Any, indent: str) -> str:
    """JSON; values that fit on a line are on one."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(flat) <= WIDTH or not isinstance(value, dict | list):
        return flat
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {laid_out(item, inner)}" for key, item in value.items()]
    else:
        parts = [laid_out(item, inner) for item in value]
    first, last = "{}" if isinstance(value, dict) else "[]"
    return f"{first}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{last}"


def body(value: Any) -> str:
    """The value, shortened to a few lines."""
    lines = f"  {laid_out(trimmed(value), '  ')}".splitlines()
    return "\n".join(lines if len(lines) <= LINES else [*lines[: LINES - 1], "    ..."])


class Guide:
    """Sends requests and shows them with their answers."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._step = 0

    def title(self, text: str) -> None:
        self._step += 1
        print(f"\n{self._step}. {text}")

    def get(self, path: str, **query: Any) -> Any:
        return self._ask("GET", path, (200,), params=query)

    def post(self, path: str, content: Any, expect: Sequence[int] = (200, 201), key: str = "") -> None:
        """POST JSON and show the answer. `key`: of idempotency."""
        self._ask("POST", path, expect, json=content, headers={"Idempotency-Key": key} if key else {})

    def delete(self, path: str) -> None:
        self._ask("DELETE", path, (204,))

    def _ask(self, method: str, path: str, expect: Sequence[int], **rest: Any) -> Any:
        request = self._http.build_request(method, path, **rest)
        print(f"\n  {method} {request.url.raw_path.decode()}")
        if "json" in rest:
            print(body(rest["json"]))
        response = self._http.send(request)
        took = response.elapsed.total_seconds() * 1_000
        print(f"  -> {response.status_code} {HTTPStatus(response.status_code).phrase}, {took:.1f} ms")
        if response.status_code not in expect:
            raise Surprise(f"{method} {path}: {response.text}")
        answer = response.json() if response.content else None
        if answer is not None:
            print(body(answer))
        return answer


# The steps


def health(guide: Guide) -> None:
    guide.title("Health")
    guide.get("/health/live")
    guide.get("/health/ready")


def registry(guide: Guide) -> None:
    guide.title("Register features of a user, one of each type")
    for feature in FEATURES:
        guide.post("/features/register", {**feature, "entity": "user", "tags": ["shop"]})
    guide.title("A second version lives beside the first")
    visits = {"name": "visits_7d", "entity": "user", "valueType": "integer", "tags": ["web"]}
    for version, about in ((1, "Visits within 7 days"), (2, "The same without robots")):
        guide.post("/features/register", {**visits, "version": version, "description": about})
    guide.get("/features/user.visits_7d/versions")
    guide.title("A group: features that are read together")
    group = {"name": "checkout", "entity": "user", "features": list(CHECKOUT), "description": "Asked at the till"}
    guide.post("/groups", group)
    guide.get("/groups/checkout")


def find(guide: Guide) -> None:
    guide.title("Find features by tag, group or word")
    guide.get("/features", tags="web,billing", match="any")
    guide.get("/features", group="checkout", limit=2)
    guide.get("/features", entity="user", q="loyalty")


def write(guide: Guide) -> None:
    guide.title("Write a month of purchases in one batch; sending it again is safe")
    guide.post("/features/write-batch", {"values": observations()}, key=f"demo-{MIDNIGHT.date()}")
    guide.title("Write one value")
    value = {"featureId": "user.visits_7d.v2", "entityId": SOME[0], "value": 5}
    guide.post("/features/write", value)
    guide.title("One bad value, and nothing of a batch is written")
    good = {"featureId": "purchase_amount", "entityId": SOME[0], "value": 12.5}
    guide.post("/features/write-batch", {"values": [good, {**good, "value": "a lot"}]}, expect=(400,))


def serve(guide: Guide) -> None:
    guide.title("Serve the latest values: of a group, and of an unknown user")
    guide.post("/features/serve", {"entityIds": [*SOME, "nobody"], "group": "checkout"})
    guide.title("With metadata: present, null, missing or expired, and how old")
    asked = {"entityIds": SOME[:1], "features": ["last_category", "is_member"], "includeMetadata": True}
    guide.post("/features/serve", asked)
    guide.title("As of a fortnight ago: nothing answers from the future")
    fortnight = rfc3339(MIDNIGHT - timedelta(days=14))
    guide.post("/features/serve", {"entityIds": SOME, "features": REFERENCES, "asOf": fortnight})
    guide.title("Vectors, JSON and times come back as they were written")
    guide.post("/features/serve", {"entityIds": SOME[:1], "features": ["taste", "basket", "last_purchase"]})


def history(guide: Guide) -> None:
    span = {"startTime": rfc3339(BEGAN), "endTime": rfc3339(MIDNIGHT)}
    guide.title("Aggregate a month: each feature in its own way")
    aggregation = {"purchase_amount": "sum", "purchase_count_7d": "max"}
    asked = {"entityIds": SOME, "features": REFERENCES, **span}
    guide.post("/features/historical", {**asked, "aggregation": aggregation})
    guide.title("Week by week")
    weekly = {"entityIds": SOME[:1], "features": REFERENCES[:1], **span, "aggregation": "avg", "window": "7d"}
    guide.post("/features/historical", weekly)
    guide.title("The observations behind it, two at a time, newest first")
    path, query = "/features/user.purchase_amount/history", {"entityId": SOME[0], "limit": 2, "order": "desc"}
    page = guide.get(path, **query)
    if "nextCursor" in page:
        guide.get(path, **query, cursor=page["nextCursor"])


def train(guide: Guide) -> None:
    guide.title("A training set: features as of each row's own moment, and the week before it")
    moments = [rfc3339(MIDNIGHT - timedelta(days=days)) for days in (1, 20)]
    rows = [{"entityId": one, "timestamp": moment, "bought": True} for one in SOME[:2] for moment in moments]
    week = {"ref": "purchase_amount", "aggregation": "sum", "window": "7d", "as": "spent_7d"}
    guide.post("/features/training-set", {"rows": rows, "features": ["purchase_count_7d", week]})


def watch(guide: Guide) -> None:
    guide.title("Statistics of everything written")
    guide.get("/features/user.purchase_amount/stats")
    guide.get("/features/user.is_member/stats")
    guide.title("A quality check, how old each feature is, and the alerts")
    check = {"id": "no-refunds", "checkType": "range", "config": {"min": 0}}
    guide.post("/features/user.purchase_amount/checks", check)
    guide.get("/checks")
    guide.get("/monitor/freshness")
    guide.get("/monitor/alerts")
    guide.title("Drift: the last fortnight against the one before it")
    days = [rfc3339(MIDNIGHT - timedelta(days=number)) for number in (28, 14, 0)]
    periods = {"reference": f"{days[0]}/{days[1]}", "current": f"{days[1]}/{days[2]}"}
    guide.get("/features/user.purchase_amount/drift", **periods)


def delete(guide: Guide) -> None:
    guide.title("Delete a feature: its values go too")
    guide.post("/features/register", {"name": "throw_away", "entity": "user", "valueType": "number"})
    guide.delete("/features/user.throw_away.v1")
    asked = {"entityIds": SOME[:1], "features": ["user.throw_away.v1"]}
    guide.post("/features/serve", asked, expect=(404,))


STEPS = (health, registry, find, write, serve, history, train, watch, delete)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: every answer was as expected; 1: one was not, or there is no service."""
    parser = argparse.ArgumentParser(description="A tour of a running service.")
    parser.add_argument("--url", default=URL, help=f"where the service listens (default: {URL})")
    url = parser.parse_args(arguments).url
    try:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
            wait(http)
            guide = Guide(http)
            for step in STEPS:
                step(guide)
    except httpx.TransportError as error:
        print(f"no service answers at {url} ({error}); start one with: make serve", file=sys.stderr)
        return 1
    except Surprise as surprise:
        print(f"unexpected answer: {surprise}", file=sys.stderr)
        return 1
    print(f"\nAll of this stays in the service; {url}/docs describes every route.")
    return 0


def wait(http: httpx.Client) -> None:
    """Wait until the service answers. Raises TransportError."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            http.get("/health/live")
            return
        except httpx.ConnectError:
            if time.monotonic() > until:
                raise
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
