"""Kills a command between any two of its messages to PostgreSQL.

To the database a client that is killed is one that sent so many messages and no more, whatever the
signal and the clock. So a message is a moment, each of them can be chosen, and no test has to hit
one by chance.
"""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from signal import SIGKILL, Signals
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict

from tests.processes import production, start

CHUNK_BYTES = 256 * 1024
TIMEOUT_S = 120


@dataclass(frozen=True)
class Moment:
    """When the command sends the message of this number, of those that hold `text`."""

    number: int
    text: bytes = b""
    is_delivered: bool = False  # the message, whose answer nobody awaits then
    signal: Signals = SIGKILL


class KillingProxy:
    """Stands before PostgreSQL. The commands that it runs wait for each answer."""

    def __init__(self, port: int, database_url: str) -> None:
        parts = urlsplit(database_url)
        user, at, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{user}{at}127.0.0.1:{port}").geturl()
        self.messages = 0  # of the last command
        self._database_url = database_url
        self._lock = threading.Lock()
        self._moment: Moment | None = None
        self._left = 0  # messages, until it comes
        self._command: subprocess.Popen[str]

    def run(
        self, *arguments: str, moment: Moment | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs `manage.py`, to its end or to the moment."""
        with self._lock:
            self.messages = 0
            self._moment = moment
            self._left = moment.number if moment else 0
            self._command = start(
                *arguments,
                env=production(DATABASE_URL=self.url),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        output, _ = self._command.communicate(timeout=TIMEOUT_S)
        return subprocess.CompletedProcess(arguments, self._command.returncode, output)

    def accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = self._connect()
            for work in (self._pass_questions, self._pass_answers):
                threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _connect(self) -> socket.socket:
        parameters = conninfo_to_dict(self._database_url)
        host, port = str(parameters["host"]), int(parameters.get("port") or 5432)
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _pass_questions(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while chunk := client.recv(CHUNK_BYTES):
                if self._is_to_pass(chunk):
                    server.sendall(chunk)
            server.shutdown(socket.SHUT_WR)  # it works on what was delivered, and then sees this

    def _pass_answers(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            is_client_there = True
            while chunk := server.recv(CHUNK_BYTES):
                if is_client_there:
                    try:
                        client.sendall(chunk)
                    except OSError:
                        is_client_there = False

    def _is_to_pass(self, message: bytes) -> bool:
        with self._lock:
            self.messages += 1
            if self._moment is None or self._moment.text not in message:
                return True
            self._left -= 1
            if self._left != 0:
                return True
            self._command.send_signal(self._moment.signal)
            self._command.wait(TIMEOUT_S)
            return self._moment.is_delivered


@contextmanager
def killing_proxy(database_url: str) -> Iterator[KillingProxy]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = KillingProxy(listener.getsockname()[1], database_url)
        threading.Thread(target=proxy.accept, args=(listener,), daemon=True).start()
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which closing alone does not
