"""Log lines on standard error, as text or as one JSON object a line."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import msgspec

from actors.settings import Settings
from actors.timestamps import format_timestamp

_UNSEEN = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    code: f"\\u{code:04x}" for code in (0x2028, 0x2029)
}
_UNSEEN_IN_JSON = {code: f"\\u{code:04x}" for code in (*range(127, 160), 0x2028, 0x2029)}
"""JSON itself escapes the characters below 32."""


class _Text(logging.Formatter):
    """A record is one line, whatever characters a path or id contains; a traceback follows it, indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return super().formatMessage(record).translate(_UNSEEN)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        lines = super().formatException(ei).splitlines()
        return "\n".join("    " + line.translate(_UNSEEN) for line in lines)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": format_timestamp(int(record.created * 1_000_000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode().translate(_UNSEEN_IN_JSON)


def formatter(form: Literal["text", "json"]) -> logging.Formatter:
    """The formatter for log lines as text or JSON."""
    return _Json() if form == "json" else _Text("%(asctime)s %(levelname)-7s %(name)s: %(message)s")


def configure(settings: Settings) -> None:
    """Set up logging: the loggers below `timewell` at the configured level, those of libraries at warning."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(settings.log_format))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("timewell").setLevel(settings.log_level.upper())
