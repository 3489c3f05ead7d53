"""The page on several entities is true: what it does is done to a live service, and is answered as it says."""

from __future__ import annotations

import doctest
import re

from tests.live import ROOT, LiveServer

PAGE = ROOT / "docs" / "several-entities.md"


def test_the_page_on_several_entities_is_answered_as_it_says(server: LiveServer) -> None:
    told = re.findall(r"^```pycon\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    code = "\n".join(told).replace("http://localhost:3001", server.url)
    session = doctest.DocTestParser().get_doctest(code, {}, PAGE.name, None, None)
    wrong: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    found = runner.run(session, out=wrong.append, clear_globs=False)
    session.globs["client"].close()
    assert found.attempted > 20 and not found.failed, "".join(wrong)
