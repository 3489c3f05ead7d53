"""Connections to Redis or Valkey, single or cluster: pipelines, timeouts, helpful errors.

redis-py implements the protocol. Which node a command goes to is determined here, by the slot of its key, so that
all commands for a node form one pipeline; redirections (MOVED, ASK) are followed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from actors.errors import StartupError, StorageDown
from actors.settings import STORAGE_CONNECTIONS, STORAGE_START_SECONDS
from actors.storage.redis.functions import CODE, LIBRARY, NAMES, ROOT, VERSIONS, function
from actors.storage.shared.address import check_address, refused

T = TypeVar("T")
log = logging.getLogger("timewell.storage")
RETRY_SECONDS = 3.0
PAUSE_SECONDS = 0.05
"""While a cluster moves a slot or elects a primary, commands are retried for RETRY_SECONDS, at least this
often."""
_NOT_MENDED = ("NOAUTH", "Unknown", "CERTIFICATE_VERIFY_FAILED")
"""In errors that are the same however long one waits."""
_LOST = exceptions.ClusterDownError("the connection was lost")
_ROOT_SLOT = key_slot(ROOT)


class Command(NamedTuple):
    """A command, and the key that determines its node."""

    key: bytes
    words: tuple[Any, ...]


def call(name: str, keys: Sequence[bytes], *words: Any) -> Command:
    """A call of a function of the library."""
    return Command(keys[0], ("FCALL", function(name), len(keys), *keys, *words))


def judged(version: int | None, name: str, keys: Sequence[bytes], *words: Any) -> Command:
    """A call that does nothing unless the registry is of this version; any version if that is None."""
    if version is None:
        return call(name, keys, *words)
    return call(f"judged_{name}", [VERSIONS, *keys], version, *words)


class RedisLink:
    """Sends commands to Redis. Thread-safe."""

    def __init__(self, url: str, timeout: float) -> None:
        """`url`: redis://user:password@host:port/0, or rediss:// for TLS. With `?replicas=N`, writes wait for N
        replicas. `timeout`: seconds that a node has to answer.
        """
        check_address(url, ("redis", "rediss", "unix"), "Redis")
        self.timeout = timeout
        try:
            parts = urlsplit(url)
            options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            self.replicas = int(options.pop("replicas", 0))
            self._first = self._client(urlunsplit(parts._replace(query=urlencode(options))))
            self._first.connection_pool.make_connection()  # validates the options without connecting
        except (TypeError, ValueError):
            raise refused("Redis", "an option in it is unknown or is not what it should be") from None
        self.plain = self._first.connection_pool.connection_class is redis.Connection
        """Whether connections are plain TCP: neither TLS nor a Unix socket."""
        self.cluster = False
        self._lock = threading.Lock()
        self._nodes: dict[tuple[str, int], redis.Redis] = {}
        self._slots: list[redis.Redis] = []

    def _client(self, url: str) -> redis.Redis:
        pool = redis.BlockingConnectionPool.from_url(
            url,
            socket_timeout=self.timeout,
            socket_connect_timeout=self.timeout,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            max_connections=STORAGE_CONNECTIONS,
            timeout=self.timeout,
        )
        return redis.Redis(connection_pool=pool)

    def open(self) -> None:
        """Wait for the server, and load the function library. Raises StartupError."""
        self._once_up(self._load_where_missing)

    def there(self) -> bool:
        """Wait for the server, and check whether it has data of Timewell. Raises StartupError."""
        return bool(self._once_up(lambda: self.ask([Command(ROOT, ("EXISTS", VERSIONS))])[0]))

    def _once_up(self, work: Callable[[], T]) -> T:
        """Run `work` as soon as the server is up.

        Raises StartupError after STORAGE_START_SECONDS, or at once for an error that waiting cannot solve.
        """
        until, pause = time.monotonic() + STORAGE_START_SECONDS, 0.1
        while True:
            try:
                self._begin()
                return work()
            except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
                raise StartupError(f"Redis cannot be used: {_words(error)}") from None
            except exceptions.RedisError as error:
                if time.monotonic() > until or any(word in str(error) for word in _NOT_MENDED):
                    raise StartupError(f"Redis cannot be used: {_words(error)}") from None
                log.warning("Redis cannot be reached yet, trying again: %s", _words(error))
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def _begin(self) -> None:
        (info,) = self._said(self._first, [("INFO", "cluster")])
        self.cluster = b"cluster_enabled:1" in _checked(info)
        self._look()

    def _load_where_missing(self) -> None:
        for node in self._primaries():
            (known,) = self._said(node, [("FUNCTION", "LIST", "LIBRARYNAME", LIBRARY)])
            # A library of a later version has more functions, which its processes need: it is left in place.
            if not {function(name).encode() for name in NAMES} <= _functions(_checked(known)):
                _checked(self._said(node, [("FUNCTION", "LOAD", "REPLACE", CODE)])[0])

    def load(self, code: str) -> None:
        """Load a function library into each node, replacing an existing one. Raises StorageDown."""
        for node in self._primaries():
            _checked(self._said(node, [("FUNCTION", "LOAD", "REPLACE", code)])[0])

    def close(self) -> None:
        """Close all connections."""
        for node in (self._first, *self._nodes.values()):
            node.connection_pool.disconnect()  # a redis-py client does not close a pool that it was given

    # Nodes

    def _primaries(self) -> list[redis.Redis]:
        return list(dict.fromkeys(self._slots)) if self.cluster else [self._first]

    def _look(self) -> None:
        """Ask the cluster which node has which slots."""
        if not self.cluster:
            return
        with self._lock:
            for asked in [self._first, *self._nodes.values()]:
                try:
                    (ranges,) = self._said(asked, [("CLUSTER", "SLOTS")])
                except exceptions.RedisError:
                    continue
                if isinstance(ranges, Exception):
                    continue
                slots = [self._first] * 16_384
                for first, last, (host, port, *_), *_ in ranges:
                    node = self._node(*self._where(host, port))
                    slots[first : last + 1] = [node] * (last + 1 - first)
                self._slots = slots
                return
        raise StorageDown("no node of the Redis cluster can be reached")

    def _node(self, host: str, port: int) -> redis.Redis:
        found = self._nodes.get((host, port))
        if found is None:
            given = self._first.connection_pool.connection_kwargs
            kept = {name: value for name, value in given.items() if name not in ("host", "port", "db", "path")}
            pool = redis.BlockingConnectionPool(  # type: ignore[no-untyped-call]
                connection_class=self._first.connection_pool.connection_class,
                max_connections=STORAGE_CONNECTIONS,
                timeout=self.timeout,
                host=host,
                port=port,
                **kept,
            )
            found = self._nodes.setdefault((host, port), redis.Redis(connection_pool=pool))
        return found

    def _owner(self, command: Command) -> redis.Redis:
        if not self.cluster:
            return self._first
        return self._slots[_slot(command)]

    # Visits

    def ask(self, commands: Sequence[Command], whole: bool = False, durable: bool = False) -> list[Any]:
        """The replies in the order of the commands, with one pipeline to each node. Raises StorageDown.

        `whole`: run all commands as one transaction; a cluster does so for each node whose commands are of one
        slot. `durable`: wait until the required number of replicas have the commands too.
        """
        if not commands:
            return []
        replies: list[Any] = [None] * len(commands)
        waiting: Sequence[int] = range(len(commands))
        sent_on: dict[int, redis.Redis] = {}
        until, lost, pause = time.monotonic() + RETRY_SECONDS, 0, 0.0
        while waiting and time.monotonic() < until:
            if pause:
                time.sleep(pause)
            for node, numbers in self.by_node(commands, waiting, sent_on):
                sent = [commands[number] for number in numbers]
                try:
                    found = self._visit(node, sent, whole, durable, numbers[0] in sent_on)
                except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
                    lost += 1
                    if isinstance(error, exceptions.TimeoutError) or lost > (20 if self.cluster else 1):
                        raise StorageDown(f"Redis cannot be reached: {_words(error)}") from None
                    found = [_LOST] * len(numbers)
                for number, reply in zip(numbers, found, strict=True):
                    replies[number] = reply
            waiting = [number for number in waiting if _moved(replies[number])]
            sent_on = self._sent_on(replies, waiting)
            pause = 0.0 if len(sent_on) == len(waiting) else min(PAUSE_SECONDS, 2 * pause + 0.001)
        if waiting:
            raise StorageDown("Redis keeps moving what is asked for")
        return [_checked(reply) for reply in replies]

    def by_node(
        self, commands: Sequence[Command], waiting: Sequence[int], sent_on: Mapping[int, redis.Redis]
    ) -> list[tuple[redis.Redis, list[int]]]:
        """Group the positions of waiting commands by node: that of their key, or that of a redirection."""
        if not self.cluster:
            return [(self._first, list(waiting))]
        by_node: dict[tuple[redis.Redis, bool], list[int]] = {}
        for number in waiting:
            node = sent_on.get(number) or self._owner(commands[number])
            by_node.setdefault((node, number in sent_on), []).append(number)
        return [(node, numbers) for (node, _), numbers in by_node.items()]

    def _visit(
        self, node: redis.Redis, commands: Sequence[Command], whole: bool, durable: bool, asking: bool
    ) -> list[Any]:
        """Send commands to one node. `asking`: another node, which moves their slot to it, has redirected them."""
        whole = whole and len(commands) > 1 and (not self.cluster or len({_slot(one) for one in commands}) == 1)
        durable = durable and self.replicas > 0
        words = [command.words for command in commands]
        if whole:
            words = [("MULTI",), *words, ("EXEC",)]
        if asking:  # ASKING applies to the next command, or to a whole transaction
            words = [("ASKING",), *words] if whole else [one for word in words for one in (("ASKING",), word)]
        if durable:
            words.append(("WAIT", self.replicas, int(self.timeout * 500)))
        replies = self._said(node, words)
        if durable:
            reached = _checked(replies.pop())
            if reached < self.replicas:
                raise StorageDown(f"only {reached} of {self.replicas} replicas have the write")
        if whole:
            for reply in replies:
                if _moved(reply):
                    return [reply] * len(commands)
            for reply in replies:
                _checked(reply)
            return list(replies[-1])
        return replies[1::2] if asking else replies

    def _said(self, node: redis.Redis, words: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The replies of one node, including errors. Raises ConnectionError, TimeoutError."""
        pool = node.connection_pool
        connection: Any = pool.get_connection()
        try:
            connection.send_packed_command(connection.pack_commands(words))
            return [_reply(connection) for _ in words]
        except BaseException:
            connection.disconnect()  # unread replies would be taken for those to the next commands
            raise
        finally:
            pool.release(connection)

    def _sent_on(self, replies: Sequence[Any], waiting: Sequence[int]) -> dict[int, redis.Redis]:
        """The nodes that commands are redirected to once (ASK). Permanent moves (MOVED) are noted in `_slots`."""
        sent_on, lost = dict[int, redis.Redis](), False
        for number in waiting:
            reply = replies[number]
            if isinstance(reply, exceptions.MovedError):
                self._slots[reply.slot_id] = self._node(*self._where(reply.host, reply.port))
            elif isinstance(reply, exceptions.AskError):
                sent_on[number] = self._node(*self._where(reply.host, reply.port))
            else:
                lost = lost or not isinstance(reply, exceptions.TryAgainError)
        if lost:
            self._look()
        return sent_on

    def _where(self, host: Any, port: Any) -> tuple[str, int]:
        """The address of a node as given by another; an empty host means the host that we connected to."""
        name = host.decode() if isinstance(host, bytes) else host
        return name or self._first.connection_pool.connection_kwargs["host"], int(port)

    def each_key(self, pattern: bytes) -> Any:
        """All keys that match a pattern, in lists; a key may be repeated."""
        for node in self._primaries():
            cursor = 0
            while True:
                try:
                    cursor, found = _checked(
                        self._said(node, [("SCAN", cursor, "MATCH", pattern, "COUNT", 1_000)])[0]
                    )
                except exceptions.RedisError as error:
                    raise StorageDown(f"Redis cannot be reached: {_words(error)}") from None
                if found:
                    yield found
                if int(cursor) == 0:
                    break


def _functions(libraries: Sequence[Sequence[Any]]) -> set[bytes]:
    """The names of the functions in the reply to FUNCTION LIST."""
    found = [dict(zip(fields[::2], fields[1::2], strict=True)) for fields in libraries]
    return {made[1] for library in found for made in library[b"functions"]}


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except exceptions.ResponseError as error:
        return error


def _slot(command: Command) -> int:
    return _ROOT_SLOT if command.key.startswith(ROOT) else key_slot(command.key)


def _moved(reply: Any) -> bool:
    """Whether a command has to be sent to another node, or again a moment later."""
    kinds = exceptions.MovedError | exceptions.AskError | exceptions.TryAgainError | exceptions.ClusterDownError
    return isinstance(reply, kinds)


def _checked(reply: Any) -> Any:
    if not isinstance(reply, Exception):
        return reply
    if isinstance(reply, exceptions.ReadOnlyError):
        raise StorageDown("Redis is read-only: a replica, or a primary that has stepped down") from None
    if isinstance(reply, exceptions.OutOfMemoryError):
        raise StorageDown("Redis is full (maxmemory)") from None
    raise StorageDown(f"Redis cannot do it now: {_words(reply)}") from None


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
