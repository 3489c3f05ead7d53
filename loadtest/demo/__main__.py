"""`python -m loadtest.demo`: fills a running service with a small shop and shows each route answering.

It may be run again and again: the load has an Idempotency-Key, registering again only updates, and what is
thrown away is made first.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import httpx

from loadtest.demo.purchases import BEGAN, CHECKOUT, FEATURES, MIDNIGHT, USERS, observations, rfc3339

URL = "http://127.0.0.1:3001"
PATIENCE_SECONDS = 20.0
"""A service that is starting is waited for: on a busy machine that takes a while."""
SOME = USERS[:3]
REFERENCES = ["purchase_amount", "purchase_count_7d"]
WIDTH, LINES, ITEMS, CHARACTERS = 100, 16, 2, 72
"""So much of a body is shown."""


class Surprise(Exception):
    """A route did not answer as it should."""


def trimmed(value: Any) -> Any:
    """The value with long lists and texts cut, saying how much is missing."""
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
    """JSON; what fits a line stands on one."""
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
    """As much of it as fits a glance."""
    lines = f"  {laid_out(trimmed(value), '  ')}".splitlines()
    return "\n".join(lines if len(lines) <= LINES else [*lines[: LINES - 1], "    ..."])


class Guide:
    """Asks the service and shows what is said."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._step = 0

    def title(self, text: str) -> None:
        self._step += 1
        print(f"\n{self._step}. {text}")

    def get(self, path: str, **query: Any) -> Any:
        return self._ask("GET", path, (200,), params=query)

    def post(self, path: str, content: Any, expect: Sequence[int] = (200, 201), key: str = "") -> None:
        """POST JSON and show. `key`: to make it idempotent."""
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
    guide.title("Serve the latest values: of a group, and of a user that nobody knows")
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
    """Exit code 0: every route answered as it should; 1: one did not, or there is no service."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.demo", description="A tour of a running service.")
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
    """Until something answers. Raises TransportError."""
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
