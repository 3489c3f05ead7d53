"""Questions put to Redis from the event loop, over plain TCP. They give up at the first thing out of the ordinary.

What is not answered here (a node that is away, a slot that has moved) is asked again by `RedisLink`, which waits
and looks around, from a worker thread. That way takes 140 microseconds for a pipeline of two commands, this one
42; coredis, which is at home on trio, 275.

It could go if a client for trio answered a pipeline of two commands in less than the 140 microseconds of a thread.
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
    """Something that is not an answer."""


class Streams:
    """Connections for the tasks of one event loop."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._idle: dict[int, list[_Stream]] = {}

    async def ask(self, commands: Sequence[Command]) -> list[Any] | None:
        """The replies in the order of the commands, or None where `RedisLink` has to be asked.

        Raises StorageDown where a node does not answer in time.
        """
        try:
            with trio.fail_after(self._link.timeout):
                return await self._asked(commands)
        except trio.TooSlowError:
            raise StorageDown(f"Redis cannot be reached: no answer in {self._link.timeout:g} s") from None
        except (OSError, trio.BrokenResourceError, hiredis.HiredisError, _Unusual):
            return None

    async def _asked(self, commands: Sequence[Command]) -> list[Any]:
        """All nodes are asked before the first is listened to."""
        replies: list[Any] = [None] * len(commands)
        visits: list[tuple[redis.Redis, list[int], _Stream]] = []
        try:
            for node, numbers in self._link.by_node(commands, range(len(commands)), {}):
                idle = self._idle.get(id(node))
                visits.append((node, numbers, idle.pop() if idle else await _connected(node)))
                await visits[-1][2].send([commands[number].words for number in numbers])
            for _, numbers, stream in visits:
                for number, reply in zip(numbers, await stream.receive(len(numbers)), strict=True):
                    replies[number] = reply
        except BaseException:
            for _, _, stream in visits:
                stream.close()  # what is still to be read would be taken for the next answer
            raise
        for node, _, stream in visits:
            self._idle.setdefault(id(node), []).append(stream)
        return replies

    def close(self) -> None:
        """End those that nobody uses."""
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
    """A connection, which one question at a time uses."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._reader = hiredis.Reader()

    async def send(self, words: Sequence[tuple[Any, ...]]) -> None:
        """Put the commands."""
        await self._stream.send_all(b"".join(map(hiredis.pack_command, words)))

    async def receive(self, count: int) -> list[Any]:
        """So many replies. Raises _Unusual where one of them is an error."""
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
        """At once."""
        self._stream.socket.close()
