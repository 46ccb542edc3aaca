"""A TCP proxy before PostgreSQL that lets a commit through and loses its answer."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from psycopg import conninfo


class LosesAnswer:
    """Forwards connections; cuts the one that commits after it has sent a marker.

    The server has committed by then: only the client does not hear of it. A context manager.

    Args:
        dsn: of the server.
        marker: bytes of the statement whose transaction is meant.
    """

    def __init__(self, dsn: str, marker: bytes) -> None:
        self._server = conninfo.conninfo_to_dict(dsn)
        self._marker = marker
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.lost = 0

    def __enter__(self) -> LosesAnswer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    @property
    def dsn(self) -> str:
        return conninfo.make_conninfo(**{**self._server, "port": self._listener.getsockname()[1]})

    def _accept(self) -> None:
        with suppress(OSError):  # closed: the test is over
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        address = (str(self._server["host"]), int(str(self._server["port"])))
        with client, socket.create_connection(address) as server:
            cut = threading.Event()
            answers = threading.Thread(
                target=self._forward_answers, args=[server, client, cut], daemon=True
            )
            answers.start()
            is_meant = False
            with suppress(OSError):
                while said := client.recv(65536):
                    is_meant = is_meant or self._marker in said
                    if is_meant and b"commit" in said.lower() and not self.lost:
                        self.lost += 1
                        cut.set()
                    server.sendall(said)
                server.shutdown(socket.SHUT_WR)
            answers.join()

    def _forward_answers(
        self, server: socket.socket, client: socket.socket, cut: threading.Event
    ) -> None:
        with suppress(OSError):
            while said := server.recv(65536):
                if cut.is_set():
                    break
                client.sendall(said)
            client.shutdown(socket.SHUT_RDWR)
