"""`python -m loadtest.micro.bare BYTES`: what HTTP costs here without the product.

The same framework, server and handling of connections, with one route that reads its body and answers a
constant of so many bytes.
"""

from __future__ import annotations

import sys
from functools import partial

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from quart import Response, request
from quart_trio import QuartTrio

from web.gate import Gate

MAX_BODY_BYTES = 32 * 1024 * 1024


def make_app(answer: bytes) -> QuartTrio:
    """The application."""
    app = QuartTrio("bare")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES

    @app.post("/features/serve")
    async def empty() -> Response:
        await request.get_data(cache=False)
        return Response(answer, 200, content_type="application/json")

    return app


async def main(answer_bytes: int) -> None:
    """Serve on a free port until terminated."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.include_server_header = False
    config.keep_alive_max_requests = 1_000_000
    config.errorlog = None
    bare = make_app(b'"' + b"x" * (answer_bytes - 2) + b'"')
    gate = Gate(trio.Event())
    gate.open(bare)

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await (gate if scope["type"] == "http" else bare)(scope, receive, send)

    async with trio.open_nursery() as nursery:
        binds = await nursery.start(partial(serve, app, config))
        print(f"serving on {binds[0]}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
