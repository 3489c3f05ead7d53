"""Where a word is not one of a few, the answer says which there are."""

from __future__ import annotations

import pytest

from actors.errors import InvalidInput
from timewell.wire import Historical
from web.bodies.choices import choices
from web.bodies.requests import decode


def test_a_word_that_is_none_of_the_choices_is_answered_with_them() -> None:
    body = b'{"entityIds": [], "startTime": "2025-01-01", "endTime": "2025-01-01", "closed": "open"}'
    with pytest.raises(InvalidInput) as refused:
        decode(body, Historical)
    assert refused.value.detail == "closed: 'open' is not one of both, left, neither, right"


def test_fields_without_choices_have_none() -> None:
    assert choices(Historical, "entityIds[3]") == choices(Historical, "no.such.field") == []
