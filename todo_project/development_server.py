"""The development server, which reads and writes HTTP as the production server does.

For `manage.py runserver`: Django's, with a thread for each connection, and on any system. By
wsgiref, which it would use, bodies in chunks are lost, and 204 has a Content-Length.
"""

import socket
from contextlib import closing, suppress
from typing import Any, cast

from django.conf import settings
from django.core.servers.basehttp import WSGIServer

from .server.application import Application, answer_request, common_environ
from .server.messages import CONTINUE, RequestReader, empty_answer

RECEIVE_BYTES = 64 * 1024
# As long the rest of what is not read is thrown away, so that the client sees its answer.
LINGER_SECONDS = 2


class DevelopmentServer(WSGIServer):
    """Answers what the worker would, without its bounds."""

    def finish_request(self, request: Any, client_address: Any) -> None:
        """All requests of one connection, in the thread that was made for it."""
        client: socket.socket = request
        application = cast("Application", self.get_app())
        common = common_environ(self.server_name, self.server_port, is_multiprocess=False)
        reader = RequestReader(settings.MAX_BATCH_BODY_BYTES, settings.LONG_BODIES)
        is_last = False
        while not is_last:
            message = reader.next()
            if message is not None:
                data, rest, is_last = answer_request(
                    application, message, common, client_address[0], lambda: False
                )
                client.sendall(data)
                if rest is not None:
                    with closing(rest):
                        for piece in rest:
                            client.sendall(piece)
            elif reader.fault is not None:
                client.sendall(empty_answer(reader.fault))
                is_last = True
            elif reader.has_ended:
                return
            else:
                if reader.must_continue():
                    client.sendall(CONTINUE)
                if data := client.recv(RECEIVE_BYTES):
                    reader.feed(data)
                else:
                    reader.feed_end()
        client.shutdown(socket.SHUT_WR)
        client.settimeout(LINGER_SECONDS)
        with suppress(OSError):
            while client.recv(RECEIVE_BYTES):
                pass
