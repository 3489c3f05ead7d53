"""TLS in front of a server that has none: what comes in is decrypted, passed on, and the answers back."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""What a client of PostgreSQL asks before it begins with TLS."""


def certificate(directory: Path) -> tuple[Path, Path]:
    """One of localhost that vouches for itself, and its key."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    make = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN=localhost"
    files = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make.split(), *files], check=True, capture_output=True)
    return certificate, key


class TlsProxy:
    """Listens on a free port of localhost. A context manager."""

    def __init__(self, target: int, certificate: tuple[Path, Path], postgresql: bool) -> None:
        """`target`: the port of the server; with `postgresql` clients ask for TLS first, as that has it."""
        self._target, self._postgresql = target, postgresql
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0

    def __enter__(self) -> TlsProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            if self._postgresql:
                if client.recv(8, socket.MSG_WAITALL) != _SSL_REQUEST:
                    return  # the client has left: it is not connected to a server that says no more
                client.sendall(b"S")
            with (
                self._context.wrap_socket(client, server_side=True) as safe,
                socket.create_connection(("127.0.0.1", self._target)) as plain,
            ):
                self.connections += 1
                threading.Thread(target=_pass_on, args=(plain, safe), daemon=True).start()
                _pass_on(safe, plain)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
