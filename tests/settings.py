"""The settings of the tests: the service's, and a resource of the tests' own beside its own."""

from tests.service_settings import *  # noqa: F403
from tests.service_settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.things"]
ROOT_URLCONF = "tests.urls"
