"""The development server: Django's, which speaks HTTP as the production server does."""

from django.contrib.staticfiles.management.commands import runserver
from django.core.management.base import CommandParser

from todo_project.development_server import DevelopmentServer


class Command(runserver.Command):
    server_cls = DevelopmentServer

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(use_static_handler=False)  # WhiteNoise serves them, here as elsewhere
