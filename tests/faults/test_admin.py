"""Operators are told of a fault as everybody is."""

import re

import pytest
import requests

from tests.processes import PATIENCE_S

from .postgres import PrivatePostgres
from .service import SECRETS, Service

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("faults")]

EMAIL = "olga@example.com"
PASSWORD = "correct horse battery staple"
# What the session's row being locked by somebody else comes to.
LOCKED = (
    "IF TG_OP = 'UPDATE' THEN"
    " RAISE 'canceling statement due to lock timeout' USING ERRCODE = 'lock_not_available';"
    " END IF;"
)


@pytest.fixture(scope="module")
def _olga(_service: Service) -> None:
    password = {"DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    _service.manage("createsuperuser", "--noinput", "--email", EMAIL, **password)


def sign_in(service: Service) -> requests.Response:
    url = f"http://127.0.0.1:{service.port}/admin/login/?next=/admin/"
    with requests.Session() as browser:
        form = browser.get(url, timeout=PATIENCE_S).text
        found = re.search(r'csrfmiddlewaretoken" value="(\w+)"', form)
        assert found is not None
        SECRETS.add(PASSWORD)
        data = {"csrfmiddlewaretoken": found[1], "username": EMAIL, "password": PASSWORD}
        return browser.post(url, data, timeout=PATIENCE_S)


@pytest.mark.usefixtures("_olga")
def test_session_that_cannot_be_saved(service: Service, postgres: PrivatePostgres) -> None:
    known = len(service.causes())
    with postgres.trigger("django_session", "NOT DEFERRABLE", LOCKED):
        answer = sign_in(service)
    after = sign_in(service)

    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["error"]["code"] == "SERVICE_UNAVAILABLE"
    assert "Set-Cookie" not in answer.headers
    assert service.causes()[known:] == ["canceling statement due to lock timeout"]
    assert after.status_code == 200
    assert "Log out" in after.text
