"""The settings, and the limits on memory and waiting, with the unit in the name and the reason next to it.

A limit that belongs to one algorithm or one format stands beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

from actors.errors import StartupError

Positive = Annotated[int, Meta(ge=1)]
READ_BYTES = 512 * 1024 * 1024
"""The default for how much one query may read from disk or a shared store."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings for operators. The environment variable of a field is its name in capitals."""

    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on; 0 picks a free one")] = 3001
    data_dir: Annotated[str, Meta(min_length=1, description="where the embedded store keeps its files")] = "./data"
    storage_type: Annotated[
        Literal["embedded", "memory", "postgresql", "redis"],
        Meta(
            description="embedded: durable files in DATA_DIR; memory: nothing survives the process;"
            " postgresql, redis: the shared store at STORAGE_URL, for any number of processes"
        ),
    ] = "embedded"
    storage_url: Annotated[
        str, Meta(description="where the shared store is: postgresql://user:password@host/database, redis://host")
    ] = ""
    storage_timeout_seconds: Annotated[
        float, Meta(ge=0.1, description="a shared store that takes longer counts as down, and requests get 503")
    ] = 10.0
    cache_size: Annotated[
        int, Meta(ge=1, description="values kept in memory; the rest is read from disk when asked for")
    ] = 20_000_000
    shards: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description="store actors, each with a share of the entities; a crash holds up only one of them",
        ),
    ] = 2
    checkpoint_seconds: Annotated[
        float, Meta(gt=0, description="how often the journal is moved into the history files")
    ] = 60.0
    enable_monitoring: Annotated[
        bool, Meta(description="keep statistics of the write stream, run checks, raise alerts")
    ] = True
    monitor_seconds: Annotated[float, Meta(gt=0, description="how often the checks are run")] = 60.0
    drift_window_seconds: Annotated[
        float, Meta(ge=1, description="width of the windows that are scored for drift, each when it closes")
    ] = 3_600.0
    alert_windows: Annotated[
        int,
        Meta(ge=1, description="rounds in a row that must fail before an alert fires, or pass before it resolves"),
    ] = 2
    alert_cooldown_seconds: Annotated[
        float,
        Meta(ge=0, description="least time from when an alert resolves until its check may fire the next one"),
    ] = 3_600.0
    webhook_url: Annotated[
        str,
        Meta(pattern=r"^(https?://\S+)?$", description="URL that alerts are sent to; empty: they are not sent"),
    ] = ""
    webhook_secret: Annotated[
        str, Meta(description="key that signs what is sent to WEBHOOK_URL (HMAC-SHA256); empty: it is not signed")
    ] = ""
    agreement_sample: Annotated[
        float, Meta(ge=0, le=1, description="share of serving reads that are compared with a point-in-time read")
    ] = 0.001
    fast_lane: Annotated[
        Literal["on", "off"], Meta(description="off: serving and writing are handled like all other requests")
    ] = "on"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="least severe messages that are logged; debug adds a line for each request"),
    ] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="how log lines are written")] = "text"
    max_connections: Annotated[
        int, Meta(ge=1, description="most connections at once; fewer if the limit of open files is lower")
    ] = 10_000
    stalled_seconds: Annotated[
        float,
        Meta(ge=0.1, description="how long a client may send or receive next to nothing before it is given up"),
    ] = 30.0
    max_body_bytes: Annotated[
        int, Meta(ge=1024, description="most bytes in one request body, as it is sent; more gets 413")
    ] = 32 * 1024 * 1024
    max_batch_values: Annotated[int, Meta(ge=1, description="most values in one batch of JSON; more gets 413")] = (
        200_000
    )
    max_table_values: Annotated[
        int, Meta(ge=1, description="most values (rows x columns) in one Arrow table; more gets 413")
    ] = 10_000_000
    max_decompressed_bytes: Annotated[
        int, Meta(ge=1024, description="most bytes in one Arrow body, decompressed and decoded; more gets 413")
    ] = 256 * 1024 * 1024
    max_entities: Annotated[int, Meta(ge=1, description="most entity ids in one read; more gets 413")] = 10_000
    max_cells: Annotated[
        int,
        Meta(ge=1, description="most values in one answer (entities x features x windows); more gets 413"),
    ] = 2_000_000
    max_answer_bytes: Annotated[
        int, Meta(ge=1024, description="most bytes, about, in one answer that is not streamed; more gets 413")
    ] = 128 * 1024 * 1024
    max_read_bytes: Annotated[
        int,
        Meta(ge=1024, description="most bytes that one query reads from disk or a shared store; more gets 413"),
    ] = READ_BYTES


# Limits that nobody has needed to configure yet. They bound memory, and how long one step blocks the event loop.
MAX_ENTITY_ID_BYTES = 512
MAX_NAME_CHARACTERS = 128
MAX_VALUE_BYTES = 64 * 1024
MAX_TABLE_COLUMNS = 2_000
MAX_ARROW_SCHEMA_BYTES = 4 * 1024 * 1024
MAX_ARROW_CHUNKS = 500_000
"""Columns times record batches: each takes some hundred bytes, however few rows it has."""
MAX_VECTOR_DIMENSION = 16_384
MAX_JSON_DEPTH = 64
MAX_EXPRESSION_CHARACTERS = 8_000
MAX_EXPRESSION_TOKENS = 1_000
"""Names, values and operators of an expression: evaluating one takes a few nanoseconds a row."""
MAX_EXPRESSION_DEPTH = 64
"""Levels of operators and parentheses within each other: each takes two frames of the stack."""
MAX_PATTERN_CHARACTERS = 1_000
MAX_PATTERN_INSTRUCTIONS = 10_000
"""Size of a compiled regular expression; \\pL has 1,200. A search takes at worst this many steps a byte."""
PATTERN_SECONDS = 5.0
"""Processor time that matching the values of a request, or those that a check reads, may take."""
PATTERN_STEPS_AT_ONCE = 4_000_000
"""Bytes times instructions: at most about 20 ms. A request with more is validated in a worker thread."""
PATTERN_SEARCHERS = 2
"""Worker threads that may validate such requests at once. Disk reads have threads of their own."""
MAX_ENUM_VALUES = 10_000
MAX_RECORD_BYTES = 256 * 1024
"""Size of a feature, group or check as the registry stores it, including all texts and lists."""
MAX_FEATURES_PER_READ = 1_000
REMEMBERED_BYTES = 16 * 1024 * 1024
"""Size of a `Remembered` cache, of which there is one for each kind of request."""
MAX_LABELS = 1_000
"""Label columns in the rows of a training set."""
MAX_LABEL_VALUES = 10_000_000
"""Rows times label columns of JSON rows, counting absent ones: more than a body can hold if none is absent."""
MAX_ELEMENTS = 1_200_000
"""JSON elements in a body other than a batch: this many are decoded in about 50 ms."""
MAX_KEYS = 50_000
"""Object keys in such a body, all objects together: decoding a key takes twenty times as long."""
PAGE_BYTES = 16 * 1024 * 1024
"""A page of long values ends here, with fewer values than were asked for."""
LISTED_BYTES_PER_TURN = 128 * 1024
"""How much of a list of registered records is searched or encoded before other tasks run."""
SLICE_BYTES = 1024 * 1024
"""An answer of long values is encoded in slices of this size."""
MAX_PAGE_ROWS = 10_000
DEFAULT_PAGE_ROWS = 1_000
MAX_ROWS_FROM_DISK = 10_000_000
"""A query that needs more rows from the history is refused."""
INDEX_BYTES = 20
"""Size of a row in memory without its value: slot, event time and arrival."""

INBOX_MESSAGES = 512
INBOX_WAIT_SECONDS = 2.0
"""How long a caller waits for a place in a full inbox before the request is refused with a hint to retry."""
UNDER_WAY_SECONDS = 20.0
"""How long a repeated write waits for the first in another process before it is refused with a hint to retry."""
UNDER_WAY_AGAIN_SECONDS = 0.1
"""How often it checks for the first one's answer."""
MOST_DESCRIPTORS = 65_536
"""The limit of open files is raised to this if the system allows it."""
DESCRIPTORS_RESERVED = 256
"""Open files that connections may not use: databases, history files being read or merged, sockets to a shared
store."""
BODY_BYTES_UNDER_WAY = 512 * 1024 * 1024
"""Bytes received of request bodies that are being read or answered; further bodies are refused."""
FEATURES_IN_METRICS = 10_000
"""How many features, and how many checks, have lines of their own in `GET /metrics`: the first by id."""
METRICS_SECONDS = 1.0
"""The metrics of features are computed at most once in this time."""
SMALL_BODY_BYTES = 64 * 1024
SMALL_BODY_BYTES_UNDER_WAY = 64 * 1024 * 1024
"""Bodies of up to SMALL_BODY_BYTES have a budget of their own, so that uploads cannot crowd out serving and
writing."""
BODY_BYTES_OF_A_CONNECTION = 64 * 1024 * 1024
"""The same for one connection: HTTP/2 may bring a hundred bodies at once on it."""
ANSWER_BYTES_UNTAKEN = 512 * 1024 * 1024
"""Answers waiting to be received; beyond, the clients that have received nothing for longest are dropped."""
HEAD_SECONDS = 20.0
"""The head of a request has to arrive within this time of its first byte, or is answered with 408."""
BYTES_UNLESS_STALLED = 16 * 1024
"""How much of a body has to arrive in STALLED_SECONDS, unless less is left: about 500 bytes a second."""
CELLS_PER_TURN = 20_000
"""An answer with more values is encoded in a worker thread, so that small ones need not wait for it."""
PENDING_VALUES = 2_000_000
"""Values waiting to be committed. At about 100 bytes each this bounds memory under overload."""
GROUP_COMMIT_VALUES = 200_000
"""A commit takes no more than this, so that no write waits for a minute's backlog to be committed."""
ROWS_PER_TURN = 2_500
"""A batch is validated, split and applied this many rows at a time, up to half a millisecond each; other tasks run
in between."""
EXPRESSED_PER_TURN = 60_000
"""Features are computed for as many rows at a time as have this many values in the expression, up to a few
milliseconds each."""
COMPUTED_BYTES = 64 * 1024 * 1024
"""What the texts may take that are computed for rows that are answered together."""
ROWS_JUDGED_TOGETHER = 10_000
"""A longer batch is validated in parts of this many rows, which are joined afterwards."""
ENTITIES_PER_MESSAGE = 1_000
"""A `Between` covers at most this many entities: 1,000 x 1,000 kept values take about 15 ms."""
IDS_AT_ONCE = 10_000
"""Ids that are converted to Python strings, or checked, by one call, which holds the GIL for about a
millisecond."""
CELLS_PER_LOT = 1_000_000
"""A streamed answer is sent in lots of this many values, and takes memory for a few lots."""
IDS_READ_AT_ONCE = 2_500
"""An export reads the observations of at most this many entities at once,"""
OBSERVED_PER_LOT = 200_000
"""and of fewer if these would have more values than this."""
CELLS_PER_QUESTION = 131_072
"""A point-in-time message to a store asks for at most this many values, which take about 20 ms."""
WINDOWED_ROWS_PER_QUESTION = 4_096
"""The same for rows with a window, each of which may aggregate a thousand or millions of observations."""
AGGREGATED_ROWS_PER_TURN = 20_000
"""Aggregates over more observations are computed in worker threads: a median of this many takes two
milliseconds."""
AGGREGATED_ROWS_AT_ONCE = 250_000
"""Observations gathered for aggregation at once, unless a single range has more."""
AGGREGATORS = 2
"""Worker threads that may aggregate at once; each takes about 50 bytes an observation."""
CRASHES_ALLOWED = 5
CRASH_WINDOW_SECONDS = 60.0
"""More crashes of one actor than CRASHES_ALLOWED within this time end the process."""
SHUTDOWN_COMMIT_SECONDS = 10.0
"""The last commit may take this long before the process gives up on it."""

FLUSH_VALUES = 1_000_000
"""A checkpoint starts early when this many values are in the journal, and writes at most this many a file."""
FLUSH_BYTES = 256 * 1024 * 1024
"""Approximate size at which a checkpoint ends a file of long values."""
UNFLUSHED_VALUES = 10_000_000
"""With more values than this in the journal (because the history cannot be written), new writes are refused."""
RUNS_BEFORE_COMPACTION = 8
MAX_RUN_ROWS = 2_000_000
MAX_RUN_BYTES = 256 * 1024 * 1024
"""Compaction makes no larger runs: it sorts a run in memory, at about 200 bytes a row plus long values."""
VACUUM_HOURS = 1
"""Replaced history files are kept this long for external readers of an older version of the Delta table."""
MAX_RETENTION_VALUES = 1_000_000_000
MAX_VERSION = 999_999_999
MAX_ENTITY_KEYS = 8
"""Keys of a composite entity type: all their parts have to fit in an id of MAX_ENTITY_ID_BYTES."""
MAX_COLUMN_NAME_CHARACTERS = 256
MAX_DEFINITION_NAMES = 100
"""Features and fields of the request that one expression may name."""
MAX_DEFINITION_DEPTH = 8
"""How many levels of features may be computed from each other."""
IDEMPOTENCY_HOURS = 24
CLOCK_DOUBTED_HOURS = 24
"""A wall clock that has leapt ahead is not believed for this long when old data is to be removed
(`SteadyClock`)."""
STORAGE_CONNECTIONS = 16
"""Most connections to a shared store, each in use for one query at a time. The event loop's connections to Redis,
SHARED_STORE_WORKERS for each shard and node, come on top."""
STORAGE_START_SECONDS = 60.0
"""How long a starting process waits for its shared store to come up before it gives up."""
MAX_ROWS_FROM_SHARED = 2_000_000
"""Most rows in one read of a shared store; each consists of Python objects for a moment."""
VISIT_BYTES = 64 * 1024 * 1024
"""One visit to Redis reads so much of a range that values of the greatest length would add up to about this."""
MAX_PAYLOAD_BYTES = MAX_VALUE_BYTES + 1
"""Values that are written together are stored, and read, as one payload, up to this size; longer ones are stored
separately."""
MAX_TOGETHER_BYTES = 1_024
"""A longer vector is stored separately, so that reads of values written with it do not have to read it."""
TEXTS_PER_VISIT = 1_000
"""Most latest texts that one visit to a shared store reads, each of up to 64 KB."""
SHARED_STORE_WORKERS = 3
"""Queries to a shared store that one store actor may have open at once."""
REGISTRY_POLL_SECONDS = 0.25
"""How often changes of the registry by other processes are polled for."""
MERGE_SECONDS = 5.0
"""Over a shared store, statistics include what each process has counted after at most this long."""
MOST_WIDE_SHAPES = 256
"""Distinct sets of features of one entity type that are stored as one row; beyond, each value has its own row."""
DAILY_STATISTICS_DAYS = 5_000
"""Statistics are kept by day for event times of the last 5,000 days, and by 5,000 days before that, so that a
feature has at most 10,800 windows, whatever its event times are."""
MOST_UNSAVED_WINDOWS = 500_000
"""Windows of all features that may wait to be saved, at about 1.2 KB each. With more, the monitor does not go on
before a checkpoint has saved them; it reads what is written meanwhile from the journal."""
STATISTICS_READERS = 2
"""Worker threads that may merge statistics at once."""
VALUES_UNDER_WAY = 8_000_000
"""Values in all large answers being computed and encoded, about thirty bytes each; further large answers wait."""
FEW_VALUES = 20_000
"""An answer of up to this many values does not wait."""
ROOM_WAIT_SECONDS = 10.0
"""A large answer that has to wait for longer is refused with 503."""
ANSWERS_MADE_AT_ONCE = 2
"""Worker threads that encode large answers or decode large requests; each slows down all other requests."""
TABLES_AT_ONCE = 2
"""Arrow tables being read and validated at once, each of which may take some hundred megabytes."""
LISTERS = 2
"""Worker threads that may list ids at once."""
LISTED_SECONDS = 60.0
"""What is kept for further pages of ids is freed when no page has been asked for during this time."""
HISTORY_READERS = 2
"""Worker threads that may read history files at once."""


def from_environment(environ: Mapping[str, str], flags: Mapping[str, Any] | None = None) -> Settings:
    """Settings from the environment, overridden by flags.

    Raises StartupError, which names the variable at fault, and its value unless that may contain a secret.
    """
    names = {field.name.upper(): field.name for field in msgspec.structs.fields(Settings)}
    given: dict[str, Any] = {names[key]: value for key, value in environ.items() if key in names and value != ""}
    given.update({key: value for key, value in (flags or {}).items() if value is not None})
    for name, value in given.items():
        _check(name, value)
    return msgspec.convert(given, Settings, strict=False)


_SECRET = ("storage_url", "webhook_url", "webhook_secret")
"""Settings that may contain passwords and tokens, which must not appear in a message."""


def _check(name: str, value: object) -> None:
    try:
        msgspec.convert({name: value}, Settings, strict=False)
    except msgspec.ValidationError as error:
        reason = str(error).split(" - at ")[0]
        given = str(value)
        if name in _SECRET or "@" in given or "//" in given:  # a URL, perhaps given to the wrong setting
            raise StartupError(f"{name.upper()}: {reason.replace(given, '…')}{_choices(name)}") from None
        raise StartupError(f"{name.upper()}={value!r}: {reason}{_choices(name)}") from None


def _choices(name: str) -> str:
    """The choices of a setting that is one of several words, for an error message."""
    hint = get_args(get_type_hints(Settings, include_extras=True).get(name))
    words = ("true", "false") if hint and hint[0] is bool else get_args(hint[0]) if hint else ()
    return f"; it is one of {', '.join(words)}" if words else ""
