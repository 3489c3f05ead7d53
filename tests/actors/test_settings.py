"""Settings from the environment and from flags."""

from __future__ import annotations

import msgspec
import pytest

from actors.errors import StartupError
from actors.settings import Settings, from_environment


def test_nothing_given_gives_the_defaults() -> None:
    assert from_environment({}) == Settings()


def test_every_default_passes_its_own_check() -> None:
    given = {name.upper(): str(value) for name, value in msgspec.structs.asdict(Settings()).items()}
    assert from_environment(given) == Settings()


def test_every_setting_says_what_it_is_for() -> None:
    schema = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    assert all(field.get("description") for field in schema.values())


def test_a_variable_is_the_name_of_its_field_in_capitals() -> None:
    found = from_environment({"PORT": "0", "CHECKPOINT_SECONDS": "0.5", "ENABLE_MONITORING": "false"})
    assert (found.port, found.checkpoint_seconds, found.enable_monitoring) == (0, 0.5, False)


def test_a_flag_goes_before_the_environment() -> None:
    assert from_environment({"PORT": "1", "HOST": "::"}, {"port": 2, "host": None}).port == 2
    assert from_environment({"PORT": "1", "HOST": "::"}, {"port": 2, "host": None}).host == "::"


def test_other_variables_and_empty_ones_are_not_looked_at() -> None:
    assert from_environment({"PATH": "/bin", "PORT": "", "port": "9"}) == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "http"),
        ("PORT", "1.5"),
        ("STORAGE_TYPE", "mysql"),
        ("CACHE_SIZE", "0"),
        ("SHARDS", "0"),
        ("SHARDS", "257"),
        ("CHECKPOINT_SECONDS", "0"),
        ("CHECKPOINT_SECONDS", "soon"),
        ("ENABLE_MONITORING", "perhaps"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("MAX_BODY_BYTES", "1"),
        ("MAX_BATCH_VALUES", "0"),
        ("MAX_ENTITIES", "0"),
        ("MAX_CELLS", "0"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_name_and_value(name: str, value: str) -> None:
    with pytest.raises(StartupError) as caught:
        from_environment({name: value})
    assert name in caught.value.detail
    assert repr(value) in caught.value.detail


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(StartupError):
        from_environment({}, {"prot": 1})
