"""The application for WSGI servers; `manage.py serve` runs it under granian."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "todo_project.settings")
application = get_wsgi_application()
