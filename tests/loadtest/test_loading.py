"""Loading a file, beside peers: what is printed was loaded and counted."""

from __future__ import annotations

import pytest

from loadtest.loading import main


def test_a_small_file_is_loaded_counted_and_timed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--rows", "2000", "--cache-size", "500", "--peers", ""]) == 0
    line = capfd.readouterr().out.splitlines()[-1]
    name, rest = line[:42].strip(), line[42:].split()
    assert name == "timewell load, holding 500"
    seconds, rows_per_second, values_per_second = (float(cell.replace(",", "")) for cell in rest[:3])
    assert seconds > 0
    assert values_per_second == pytest.approx(2 * rows_per_second, abs=1)


@pytest.mark.parametrize(("words", "named"), [(["--peers", "oracle"], "oracle"), (["--rows", "0"], "--rows")])
def test_what_cannot_be_measured_is_refused(
    words: list[str], named: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(words)
    assert refusal.value.code == 2
    assert named in capfd.readouterr().err
