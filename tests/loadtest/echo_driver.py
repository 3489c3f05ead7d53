"""A driver that says what it is told."""

from __future__ import annotations

from loadtest.compare.drivers.calls import answer_calls


def echo(text: str) -> str:
    """The text; what is printed here must not get among the answers."""
    print("said aside")
    return text


if __name__ == "__main__":
    answer_calls({"echo": echo})
