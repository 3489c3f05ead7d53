"""Every setting and every limit, each with its unit in its name and its reason beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

from actors.errors import StartupError

Positive = Annotated[int, Meta(ge=1)]
READ_BYTES = 512 * 1024 * 1024
"""What a storage lets one question bring unless it is told otherwise."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator may choose. The environment variable of a field is its name in capitals."""

    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on; 0 picks a free one")] = 3001
    data_dir: Annotated[str, Meta(min_length=1, description="where the embedded store keeps its files")] = "./data"
    storage_type: Annotated[
        Literal["embedded", "memory", "postgresql", "redis"],
        Meta(
            description="embedded: durable files in DATA_DIR; memory: nothing survives the process;"
            " postgresql, redis: the server at STORAGE_URL, which any number of processes share"
        ),
    ] = "embedded"
    storage_url: Annotated[
        str, Meta(description="where a shared store is: postgresql://user:password@host/database, redis://host")
    ] = ""
    storage_timeout_seconds: Annotated[
        float, Meta(ge=0.1, description="a shared store that takes longer is taken to be down: 503")
    ] = 10.0
    cache_size: Annotated[
        int, Meta(ge=1, description="values held in memory; the rest comes from disk when asked for")
    ] = 20_000_000
    shards: Annotated[
        int, Meta(ge=1, le=256, description="store actors; they bound what one crash or one query holds up")
    ] = 2
    checkpoint_seconds: Annotated[
        float, Meta(gt=0, description="seconds between moves of the journal into the history files")
    ] = 60.0
    enable_monitoring: Annotated[
        bool, Meta(description="keep statistics of the write stream, run checks, raise alerts")
    ] = True
    monitor_seconds: Annotated[float, Meta(gt=0, description="seconds between two rounds of the checks")] = 60.0
    drift_window_seconds: Annotated[
        float, Meta(ge=1, description="width of the windows that drift is scored by, as they close")
    ] = 3_600.0
    alert_windows: Annotated[
        int,
        Meta(ge=1, description="rounds in a row that must fail before an alert fires, pass before it resolves"),
    ] = 2
    alert_cooldown_seconds: Annotated[
        float, Meta(ge=0, description="after an alert has resolved, its check's next one fires no sooner")
    ] = 3_600.0
    webhook_url: Annotated[
        str, Meta(pattern=r"^(https?://\S+)?$", description="alerts are sent here; empty for nowhere")
    ] = ""
    webhook_secret: Annotated[str, Meta(description="signs what is sent (HMAC-SHA256); empty: unsigned")] = ""
    agreement_sample: Annotated[
        float, Meta(ge=0, le=1, description="share of serving reads compared with a point-in-time read")
    ] = 0.001
    fast_lane: Annotated[
        Literal["on", "off"], Meta(description="off: serving and writing take the ordinary way of all requests")
    ] = "on"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="debug adds a line for each request")
    ] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="how log lines are written")] = "text"
    max_connections: Annotated[
        int, Meta(ge=1, description="most connections at once, fewer where the limit of open files is lower")
    ] = 10_000
    stalled_seconds: Annotated[
        float, Meta(ge=0.1, description="a client that sends or takes next to nothing for so long is given up")
    ] = 30.0
    max_body_bytes: Annotated[
        int, Meta(ge=1024, description="largest request body; more is answered with 413")
    ] = 32 * 1024 * 1024
    max_batch_values: Annotated[
        int, Meta(ge=1, description="most values in one JSON batch; more is answered with 413")
    ] = 200_000
    max_table_values: Annotated[
        int, Meta(ge=1, description="most values (rows x columns) in one Arrow table; more is answered with 413")
    ] = 10_000_000
    max_decompressed_bytes: Annotated[
        int, Meta(ge=1024, description="most bytes that a compressed Arrow body may stand for; more gets 413")
    ] = 256 * 1024 * 1024
    max_entities: Annotated[
        int, Meta(ge=1, description="most entity ids in one read; more is answered with 413")
    ] = 10_000
    max_cells: Annotated[
        int,
        Meta(ge=1, description="most values in one answer (entities x features x windows); more gets 413"),
    ] = 2_000_000
    max_answer_bytes: Annotated[
        int, Meta(ge=1024, description="largest answer that is not streamed, about; more gets 413")
    ] = 128 * 1024 * 1024
    max_read_bytes: Annotated[
        int, Meta(ge=1024, description="most that one question brings from disk or a shared store; more gets 413")
    ] = READ_BYTES


# Limits that nobody has needed to choose yet. They bound memory and how long one step holds the thread.
MAX_ENTITY_ID_BYTES = 512
MAX_NAME_CHARACTERS = 128
MAX_VALUE_BYTES = 64 * 1024
MAX_TABLE_COLUMNS = 2_000
MAX_ARROW_SCHEMA_BYTES = 4 * 1024 * 1024
MAX_ARROW_CHUNKS = 500_000
"""Each column of each record batch takes some hundred bytes, however few rows it has."""
MAX_VECTOR_DIMENSION = 16_384
MAX_JSON_DEPTH = 64
MAX_PATTERN_CHARACTERS = 1_000
MAX_PATTERN_INSTRUCTIONS = 10_000
"""Of a regular expression when it is compiled; \\pL has 1,200. A search takes at worst so many steps a byte."""
PATTERN_SECONDS = 5.0
"""Processor time for which the values of a request, or those that a check looks at, may be searched."""
PATTERN_STEPS_AT_ONCE = 4_000_000
"""Bytes times instructions: at most some 20 ms. A request with more is judged in a worker thread."""
PATTERN_SEARCHERS = 2
"""Such threads at once: what waits for the disk has its own."""
MAX_ENUM_VALUES = 10_000
MAX_RECORD_BYTES = 256 * 1024
"""A feature, a group or a check as the registry keeps it, all texts and lists included."""
MAX_FEATURES_PER_READ = 1_000
REMEMBERED_BYTES = 16 * 1024 * 1024
"""What is kept of one kind of requests so that the next like it is answered sooner."""
MAX_LABELS = 1_000
"""Columns that the rows of a training set bring along."""
MAX_LABEL_VALUES = 10_000_000
"""Of JSON rows, with what some of them lack: more than fits into a body when none does."""
MAX_ELEMENTS = 1_200_000
"""A body other than a batch has fewer: so many are decoded in some 50 ms."""
MAX_KEYS = 50_000
"""So have its objects, all together: a key takes twenty times as long."""
PAGE_BYTES = 16 * 1024 * 1024
"""A page of long values has fewer of them than were asked for."""
LISTED_BYTES_PER_TURN = 128 * 1024
"""So much of a list of registered things is looked through or encoded before others have their turn."""
SLICE_BYTES = 1024 * 1024
"""An answer of long values is put together so much at a time."""
MAX_PAGE_ROWS = 10_000
DEFAULT_PAGE_ROWS = 1_000
MAX_ROWS_FROM_DISK = 10_000_000
"""A question that needs more of the history is refused."""
INDEX_BYTES = 20
"""Of a row that a question brings, beside its value: entity, event time and arrival."""

INBOX_MESSAGES = 512
INBOX_WAIT_SECONDS = 2.0
"""How long an asker waits for a place in a full inbox before it is told to come back."""
UNDER_WAY_SECONDS = 20.0
"""How long a repeat waits for the first where that is in another process, before it is told to come back."""
UNDER_WAY_AGAIN_SECONDS = 0.1
"""How often it looks."""
MOST_DESCRIPTORS = 65_536
"""The limit of open files is raised to this, where the system lets it be."""
DESCRIPTORS_RESERVED = 256
"""Open files that connections leave: databases, history files being read or merged, a shared store's sockets."""
BODY_BYTES_UNDER_WAY = 512 * 1024 * 1024
"""Request bodies being read or answered at once, as far as they have come; more are refused."""
FEATURES_IN_METRICS = 10_000
"""So many features, and checks, have lines of their own in `GET /metrics`: the first by id."""
METRICS_SECONDS = 1.0
"""Figures of features are put together no more often than this, however many ask."""
SMALL_BODY_BYTES = 64 * 1024
SMALL_BODY_BYTES_UNDER_WAY = 64 * 1024 * 1024
"""Bodies up to so long have a room of their own: a serve or a write is taken however many uploads there are."""
BODY_BYTES_OF_A_CONNECTION = 64 * 1024 * 1024
"""HTTP/2 may bring a hundred bodies at once on one connection."""
ANSWER_BYTES_UNTAKEN = 512 * 1024 * 1024
"""Answers that wait for their clients; with more, those are given up that have taken nothing for longest."""
HEAD_SECONDS = 20.0
"""The head of a request comes within this time of its first byte, or is answered with 408."""
BYTES_UNLESS_STALLED = 16 * 1024
"""What has to come of a body in STALLED_SECONDS, unless it is all that is left: 500 bytes a second."""
CELLS_PER_TURN = 20_000
"""An answer with more values is put together in a worker thread, so that small ones need not wait for it."""
PENDING_VALUES = 2_000_000
"""Values waiting for their commit. At about 100 bytes each this bounds the memory of an overload."""
GROUP_COMMIT_VALUES = 200_000
"""A commit takes no more than this, so that one fsync is never the price of a minute's backlog."""
ROWS_PER_TURN = 2_500
"""A batch is judged, split and applied so many rows at a time, up to half a millisecond each, and others are
served in between."""
ROWS_JUDGED_TOGETHER = 10_000
"""A longer batch is judged in parts of so many rows, which are put together afterwards."""
ENTITIES_PER_MESSAGE = 1_000
"""One range message covers at most this many entities: 1,000 x 1,000 kept values is about 15 ms."""
CELLS_PER_LOT = 1_000_000
"""A streamed answer goes out so many values at a time: its memory is bounded by a few times that."""
CELLS_PER_QUESTION = 131_072
"""A point-in-time question to a store is about at most so many values: some 20 ms."""
WINDOWED_ROWS_PER_QUESTION = 4_096
"""Each row of a windowed question has observations of its own behind it, a thousand or millions."""
AGGREGATED_ROWS_PER_TURN = 20_000
"""Aggregates over more observations are made in worker threads: a median of so many takes two milliseconds."""
AGGREGATED_ROWS_AT_ONCE = 250_000
"""So many observations are taken out of the history at once, unless one range alone has more."""
AGGREGATORS = 2
"""Worker threads that may aggregate at once; each takes some 50 bytes for an observation."""
CRASHES_ALLOWED = 5
CRASH_WINDOW_SECONDS = 60.0
"""More crashes of one actor than this within the window end the process, loudly."""
SHUTDOWN_COMMIT_SECONDS = 10.0
"""The last commit may take this long before the process gives up on it."""

FLUSH_VALUES = 1_000_000
"""A checkpoint starts early when this many values wait in the journal, and writes at most so many a file."""
FLUSH_BYTES = 256 * 1024 * 1024
"""Nor does it write much more than this of long values."""
UNFLUSHED_VALUES = 10_000_000
"""With more than this in the journal (the history cannot be written), new writes are refused."""
RUNS_BEFORE_COMPACTION = 8
MAX_RUN_ROWS = 2_000_000
MAX_RUN_BYTES = 256 * 1024 * 1024
"""Compaction makes no larger runs: it sorts one in memory, at about 200 bytes a row beside long values."""
VACUUM_HOURS = 1
"""Replaced history files stay this long for outside readers of an older table version."""
MAX_RETENTION_VALUES = 1_000_000_000
MAX_VERSION = 999_999_999
IDEMPOTENCY_HOURS = 24
CLOCK_DOUBTED_HOURS = 24
"""What has grown old is removed for good once the wall clock has said so for this long (or all along)."""
STORAGE_CONNECTIONS = 16
"""To a shared store, at most; each is in use for as long as one question takes. Those of the event loop to Redis,
SHARED_STORE_WORKERS for each shard and node, are counted apart."""
STORAGE_START_SECONDS = 60.0
"""A process waits so long for its shared store to come up before it gives up."""
MAX_ROWS_FROM_SHARED = 2_000_000
"""One read of a shared store brings at most so many rows, which are Python objects for a moment."""
VISIT_BYTES = 64 * 1024 * 1024
"""One visit to Redis brings at most about so much of a range, were all values as long as they may be."""
MAX_PAYLOAD_BYTES = MAX_VALUE_BYTES + 1
"""Of what is written together, which is read together whatever is asked for, and more than which is kept apart."""
MAX_TOGETHER_BYTES = 1_024
"""A vector with more is kept apart, so that nobody who asks for what was written with it has to read it."""
TEXTS_PER_VISIT = 1_000
"""The newest texts that one visit to a shared store brings at most, each of up to 64 KB."""
SHARED_STORE_WORKERS = 3
"""Questions that one store actor may have put to a shared store at once."""
REGISTRY_POLL_SECONDS = 0.25
"""A change of the registry by another process is noticed this soon."""
MERGE_SECONDS = 5.0
"""Over a shared store, what each process counts is in the statistics of all at least this soon."""
MOST_WIDE_SHAPES = 256
"""Features of one entity type are kept together in at most so many ways; beyond, each value has its own row."""
STATISTICS_READERS = 2
"""Worker threads that may put statistics together at once."""
VALUES_UNDER_WAY = 8_000_000
"""Of the large answers that are being made and put together at once, each value some thirty bytes; others wait."""
FEW_VALUES = 20_000
"""An answer of so many waits for no other."""
ROOM_WAIT_SECONDS = 10.0
"""A large read for which there is no room for so long is answered 503."""
ANSWERS_MADE_AT_ONCE = 2
"""Worker threads that put large answers together or read large questions; each slows all other requests down."""
TABLES_AT_ONCE = 2
"""Arrow tables read and judged at once, which may each take some hundred megabytes."""
HISTORY_READERS = 2
"""Worker threads that may read history files at once."""


def from_environment(environ: Mapping[str, str], flags: Mapping[str, Any] | None = None) -> Settings:
    """Settings from the environment, overridden by flags.

    Raises StartupError that names the variable and the value at fault.
    """
    names = {field.name.upper(): field.name for field in msgspec.structs.fields(Settings)}
    given: dict[str, Any] = {names[key]: value for key, value in environ.items() if key in names and value != ""}
    given.update({key: value for key, value in (flags or {}).items() if value is not None})
    for name, value in given.items():
        _check(name, value)
    return msgspec.convert(given, Settings, strict=False)


_SECRET = ("storage_url", "webhook_url", "webhook_secret")
"""May have passwords and tokens in them anywhere, which belong into no message."""


def _check(name: str, value: object) -> None:
    try:
        msgspec.convert({name: value}, Settings, strict=False)
    except msgspec.ValidationError as error:
        reason = str(error).split(" - at ")[0]
        given = str(value)
        if name in _SECRET or "@" in given or "//" in given:  # an address, also where none belongs
            raise StartupError(f"{name.upper()}: {reason.replace(given, '…')}{_choices(name)}") from None
        raise StartupError(f"{name.upper()}={value!r}: {reason}{_choices(name)}") from None


def _choices(name: str) -> str:
    """What a setting may be, where that is one of some words."""
    hint = get_args(get_type_hints(Settings, include_extras=True).get(name))
    words = ("true", "false") if hint and hint[0] is bool else get_args(hint[0]) if hint else ()
    return f"; it is one of {', '.join(words)}" if words else ""
