"""A mail server on the loopback: takes every mail, unless it is told what to answer instead.

By hand, because Python has none since 3.12, and the tests need but the few commands that smtplib
sends (RFC 5321).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from socketserver import StreamRequestHandler, ThreadingTCPServer

# From the address after RCPT TO to what is answered.
AnswerRecipient = Callable[[str], str]


class MailServer(ThreadingTCPServer):
    """Keeps what it took in `mails`; `url` is its EMAIL_URL."""

    daemon_threads = True

    def __init__(self, answer_recipient: AnswerRecipient) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.answer_recipient = answer_recipient
        self.mails: list[Message] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}?tls=false"

    def recipients(self) -> list[str]:
        return [str(mail["To"]) for mail in self.mails]


class _Conversation(StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self._answer("220 ready")
        while line := self.rfile.readline():
            command = line.decode().strip()
            match command[:4].upper():
                case "RCPT":
                    self._answer(self.server.answer_recipient(command[len("RCPT TO:<") : -1]))
                case "DATA":
                    self._answer("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    self.server.mails.append(message_from_bytes(b"".join(lines)))
                    self._answer("250 taken")
                case "QUIT":
                    self._answer("221 bye")
                    return
                case _:
                    self._answer("250 fine")

    def _answer(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def mail_server(
    answer_recipient: AnswerRecipient = lambda address: "250 fine",
) -> Iterator[MailServer]:
    """A running server."""
    with MailServer(answer_recipient) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
