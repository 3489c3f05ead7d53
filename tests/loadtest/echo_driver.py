"""An XML-RPC server that returns its arguments."""

from __future__ import annotations

import sys
from xmlrpc.server import SimpleXMLRPCServer


def echo(text: str) -> str:
    return text


if __name__ == "__main__":
    with SimpleXMLRPCServer(("127.0.0.1", int(sys.argv[1])), logRequests=False) as server:
        server.register_introspection_functions()
        server.register_function(echo)  # type: ignore[arg-type]
        server.serve_forever()
