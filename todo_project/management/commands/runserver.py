"""The development server: Django's, which speaks HTTP as the production server does.

It tells what can be opened where, as soon as it can be.
"""

import errno

from django.conf import settings
from django.contrib.staticfiles.management.commands import runserver
from django.core.management.base import CommandParser

from todo_project import development
from todo_project.development_server import DevelopmentServer

OPENED = """
  Documentation  {url}/api/docs
  API            {url}/api/me/tasks
  Admin          {url}/admin/ (first: .venv/bin/python manage.py createsuperuser)

Ctrl-C ends the server."""


class Server(DevelopmentServer):
    def server_bind(self) -> None:
        try:
            super().server_bind()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            port: int = self.server_address[1]
            # Without an errno, for which the command has words of its own.
            raise OSError(
                f"Port {port} is taken. Choose another: make run PORT={port + 1}, "
                f"or manage.py runserver {port + 1}."
            ) from None


class Command(runserver.Command):
    default_port = str(settings.PORT)
    server_cls = Server
    addr: str  # set by handle()
    _raw_ipv6: bool

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(use_static_handler=False)  # WhiteNoise serves them, here as elsewhere

    def on_bind(self, server_port: int) -> None:
        host = f"[{self.addr}]" if self._raw_ipv6 else self.addr
        if self.addr in ("0", "0.0.0.0", "::"):  # noqa: S104  # every interface, this one included
            host = "127.0.0.1"
        url = f"{self.protocol}://{host}:{server_port}"
        development.note_server(url)
        self.stdout.write(OPENED.format(url=f"{url}{settings.PATH_PREFIX}"))
        self.stdout.flush()  # into a file, too
