"""A small shop: what 200 users bought in the 30 days before this midnight. The same all day, from a fixed seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

USERS = [f"user{number:03}" for number in range(1, 201)]
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
    """Everything that was bought, as values to write."""
    chance = random.Random(2025)
    return [value for user in USERS for value in _of_user(user, chance)]


def _of_user(user: str, chance: random.Random) -> Iterator[dict[str, Any]]:
    """A membership that is known for half of the users, and their purchases."""
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
    """What one purchase says of the user."""
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
