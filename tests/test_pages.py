"""The pages of docs/ are true: what they do is done to a live service, and is answered as they say."""

from __future__ import annotations

import doctest
import re

import pytest

from tests.live import ROOT, LiveServer

PAGES = ("several-entities.md", "on-demand-features.md")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_answered_as_it_says(server: LiveServer, name: str) -> None:
    told = re.findall(r"^```pycon\n(.*?)^```", (ROOT / "docs" / name).read_text(), re.MULTILINE | re.DOTALL)
    code = "\n".join(told).replace("http://localhost:3001", server.url)
    session = doctest.DocTestParser().get_doctest(code, {}, name, None, None)
    wrong: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    found = runner.run(session, out=wrong.append, clear_globs=False)
    session.globs["client"].close()
    assert found.attempted >= 9 and not found.failed, "".join(wrong)
