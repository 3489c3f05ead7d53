"""The methods of training sets that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from timewell import arrow
from timewell.arrow import FrameKind
from timewell.calls import ARROW, Asking, Request, Talk, get, path, route, send
from timewell.plain import listed
from timewell.routes.parts import Entry, entries
from timewell.rows_wire import TrainingSetRecord, TrainingSetsAnswer
from timewell.times import Length, Time, moment_or_none, span_word


class TrainingSetRoutes(Asking):
    """Keep training sets, and make them again."""

    @route
    def keep_training_set(
        self,
        name: str,
        features: Sequence[Entry] | None = None,
        *,
        spine: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        rows: Sequence[Mapping[str, Any]] | None = None,
        group: str | None = None,
        service: str | None = None,
        lookback: Length | None = None,
        window: Length | None = None,
        aggregation: str | None = None,
        known_at: str | None = None,
        description: str = "",
        tags: Sequence[str] = (),
        owner: str | None = None,
    ) -> Talk[TrainingSetRecord]:
        """Keep a training set under a name: asked for again, it has the same rows, whatever arrives later.

        Its rows are the observations of the feature `spine` from `start` to `end`, or `rows`, dicts with ids and
        `timestamp` as text (up to 256 KiB). The options are those of `training_set`. Returns `.rows`, how many
        there are, `.content_hash`, and `.known_at`: what had arrived by then counts. Raises InvalidInput,
        NotFound, TooLarge; Conflict if there is one of that name.

            client.keep_training_set("churn-3", service="churn.v1", spine="user.visits", start="2025-01-01")
        """
        body = {
            **_asked(features, group, service, spine, start, end),
            **_looking_back(lookback, window, aggregation, known_at),
            "name": name,
            "rows": rows,
            "description": description,
            "tags": listed(tags, "tags"),
            "owner": owner,
        }
        return (yield from self._ask(send("POST", "/training-sets", body), TrainingSetRecord))

    @route
    def training_sets(self) -> Talk[list[TrainingSetRecord]]:
        """The kept training sets, sorted by name."""
        return (yield from self._ask(get("/training-sets"), TrainingSetsAnswer)).training_sets

    @route
    def kept_training_set(self, name: str) -> Talk[TrainingSetRecord]:
        """What is known of a kept training set. Raises NotFound."""
        return (yield from self._ask(get(path("training-sets", name)), TrainingSetRecord))

    @route
    def training_set_rows(self, name: str, *, as_frame: FrameKind = "pandas") -> Talk[Any]:
        """The rows of a kept training set as a frame. Raises NotFound; ImportError without pyarrow or the library.

        client.training_set_rows("churn-3")
        """
        return arrow.frame_of((yield from self._kept_rows(name)), as_frame)

    @route
    def delete_training_set(self, name: str) -> Talk[None]:
        """Forget a kept training set. Raises NotFound."""
        yield from self._delete(path("training-sets", name))

    def _spine_rows(self, asked: Mapping[str, Any]) -> Talk[Any]:
        """The rows of a training set that is made of observations and not kept, with the options of keeping it."""
        named = [asked[name] for name in ("features", "group", "service", "spine", "start", "end")]
        back = [asked[name] for name in ("lookback", "window", "aggregation", "known_at")]
        posted = send("POST", "/features/training-set", {**_asked(*named), **_looking_back(*back)})
        request = Request("POST", posted.path, posted.query, posted.content, {**posted.headers, "Accept": ARROW})
        return arrow.from_stream((yield from self._retry.ask(request)).content)

    def _kept_rows(self, name: str) -> Talk[Any]:
        request = Request("GET", path("training-sets", name, "rows"), headers={"Accept": ARROW})
        return arrow.from_stream((yield from self._retry.ask(request)).content)


def _asked(
    features: Sequence[Entry] | None,
    group: str | None,
    service: str | None,
    spine: str | None,
    start: Time | None,
    end: Time | None,
) -> dict[str, Any]:
    """What is asked for, and of which observations the rows are made."""
    within = {"startTime": moment_or_none(start, "start"), "endTime": moment_or_none(end, "end")}
    made = None if spine is None else {"feature": spine, **within}
    return {"features": entries(features), "group": group, "service": service, "spine": made}


def _looking_back(
    lookback: Length | None, window: Length | None, aggregation: str | None, known_at: str | None
) -> dict[str, Any]:
    """How values are looked for before each row's moment."""
    back = {"lookback": span_word(lookback, "lookback"), "window": span_word(window, "window")}
    return {**back, "aggregation": aggregation, "knownAt": known_at}
