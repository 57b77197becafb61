from django.apps import AppConfig


class ThingsConfig(AppConfig):
    """A resource that only the tests have, to prove what one takes. See tests/test_resources.py."""

    name = "tests.things"
    label = "things"
