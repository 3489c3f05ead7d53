"""Exports, page by page: ids first, then everything observed of these. Each request may be repeated by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from timewell import arrow
from timewell.calls import ARROW, Asking, Request, Talk, get, path, send
from timewell.plain import EntityId, entity_text, listed
from timewell.routes.registry import RegistryRoutes
from timewell.times import Time, moment_or_none
from timewell.wire import FeatureAnswer, GroupAnswer, ServiceAnswer

MOST_IDS = 1_000
"""The entities of a page, or fewer if it would have more values than"""
VALUES_OF_A_PAGE = 500_000


@dataclass
class Pages:
    """An export under way. `entity`: the type whose ids are listed; None if `given` has the ids.

    `done`: how many entities have been exported. `more`: whether there may be another page.
    """

    asked: dict[str, Any]
    entity: str | None
    given: Sequence[str] = ()
    cursor: str | None = None
    most: int = field(default_factory=lambda: MOST_IDS)
    done: int = 0
    more: bool = True


class ExportRoutes(RegistryRoutes, Asking):
    """What the two clients and the command make exports of."""

    def _exporting(
        self,
        features: Sequence[str] | None,
        group: str | None,
        service: str | None,
        entity: str | None,
        entity_ids: Sequence[EntityId] | None,
        start: Time | None,
        end: Time | None,
    ) -> Talk[Pages]:
        """Begin an export."""
        names = listed(features, "features")
        asked = {
            "features": names,
            "group": group,
            "service": service,
            "entity": entity,
            "startTime": moment_or_none(start, "startTime"),
            "endTime": moment_or_none(end, "endTime"),
        }
        if entity_ids is not None:
            ids = listed(entity_ids, "entityIds") or []
            texts = dict.fromkeys(entity_text(one, f"entityIds[{place}]") for place, one in enumerate(ids))
            return Pages(asked, None, list(texts))
        if entity is not None:
            return Pages(asked, entity)
        if group is not None:
            return Pages(asked, (yield from self._ask(get(path("groups", group)), GroupAnswer)).entity)
        if service is not None:
            offered = yield from self._ask(get(path("services", service)), ServiceAnswer)
            return Pages(asked, offered.features[0].ref.partition(".")[0])
        if not names:  # for the service to refuse
            return Pages(asked, None)
        return Pages(asked, (yield from self._ask(get(path("features", names[0])), FeatureAnswer)).entity)

    def _export_page(self, pages: Pages) -> Talk[Any]:
        """The next page, as an Arrow table. All pages have the same columns."""
        if pages.entity is None:
            ids: Sequence[str] = pages.given[pages.done : pages.done + pages.most]
            pages.more = pages.done + len(ids) < len(pages.given)
        else:
            page = yield from self._page_of_ids(pages.entity, None, pages.cursor, pages.most)
            ids, pages.cursor, pages.more = page.ids, page.next_cursor, page.next_cursor is not None
        posted = send("POST", "/features/export", {**pages.asked, "entityIds": ids})
        headers = {**posted.headers, "Accept": ARROW}
        request = Request("POST", posted.path, posted.query, posted.content, headers)
        table = arrow.from_stream((yield from self._retry.ask(request)).content)
        pages.done += len(ids)
        values = table.num_rows * table.num_columns
        pages.most = max(1, min(MOST_IDS, 4 * pages.most, pages.most * VALUES_OF_A_PAGE // max(1, values)))
        return table
