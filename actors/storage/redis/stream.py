"""Queries to Redis from the event loop, over plain TCP, which give up on anything unusual.

What is not answered here (a node is down, a slot has moved) is asked again by `RedisLink` from a worker thread,
which retries and follows redirections. A pipeline of two commands takes 140 microseconds that way and 42 here;
coredis, a client for trio, takes 275.

This file could go if a client for trio answered such a pipeline in less than the 140 microseconds of a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis
import redis
import trio

from actors.errors import StorageDown
from actors.storage.redis.link import Command, RedisLink

_AT_ONCE_BYTES = 65_536


class _Unusual(Exception):
    """A reply other than a plain answer."""


class Streams:
    """Connections to Redis for the tasks of one event loop."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._idle: dict[redis.Redis, list[_Stream]] = {}

    async def ask(self, commands: Sequence[Command]) -> list[Any] | None:
        """The replies in the order of the commands; None if `RedisLink` has to be asked instead.

        Raises StorageDown if a node does not answer in time.
        """
        try:
            with trio.fail_after(self._link.timeout):
                return await self._asked(commands)
        except trio.TooSlowError:
            raise StorageDown(f"Redis cannot be reached: no answer in {self._link.timeout:g} s") from None
        except (OSError, trio.BrokenResourceError, hiredis.HiredisError, _Unusual):
            return None

    async def _asked(self, commands: Sequence[Command]) -> list[Any]:
        """Send to all nodes, then read the replies of each."""
        replies: list[Any] = [None] * len(commands)
        visits: list[tuple[redis.Redis, list[int], _Stream]] = []
        try:
            for node, numbers in self._link.by_node(commands, range(len(commands)), {}):
                idle = self._idle.get(node)
                visits.append((node, numbers, idle.pop() if idle else await _connected(node)))
                await visits[-1][2].send([commands[number].words for number in numbers])
            for _, numbers, stream in visits:
                for number, reply in zip(numbers, await stream.receive(len(numbers)), strict=True):
                    replies[number] = reply
        except BaseException:
            for _, _, stream in visits:
                stream.close()  # unread replies would be taken for those to the next commands
            raise
        for node, _, stream in visits:
            self._idle.setdefault(node, []).append(stream)
        return replies

    def close(self) -> None:
        """Close the idle connections."""
        for streams in self._idle.values():
            for stream in streams:
                stream.close()


async def _connected(node: redis.Redis) -> _Stream:
    given = node.connection_pool.connection_kwargs
    stream = _Stream(await trio.open_tcp_stream(given["host"], given["port"]))
    greeting: list[tuple[Any, ...]] = []
    if given.get("password"):
        greeting.append(("AUTH", given.get("username") or "default", given["password"]))
    if given.get("db"):
        greeting.append(("SELECT", given["db"]))
    try:
        await stream.send(greeting)
        await stream.receive(len(greeting))
    except BaseException:
        stream.close()
        raise
    return stream


class _Stream:
    """A connection, used by one query at a time."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._reader = hiredis.Reader()

    async def send(self, words: Sequence[tuple[Any, ...]]) -> None:
        """Send commands."""
        await self._stream.send_all(b"".join(map(hiredis.pack_command, words)))

    async def receive(self, count: int) -> list[Any]:
        """Receive `count` replies. Raises _Unusual if one of them is an error."""
        replies: list[Any] = []
        while len(replies) < count:
            reply = self._reader.gets()
            if reply is False:
                received = await self._stream.receive_some(_AT_ONCE_BYTES)
                if not received:
                    raise _Unusual("the connection was ended")
                self._reader.feed(received)
            elif isinstance(reply, Exception):
                raise _Unusual(str(reply))
            else:
                replies.append(reply)
        return replies

    def close(self) -> None:
        """Close the connection at once."""
        self._stream.socket.close()
