"""[A6] Keys that change: what was signed before is good while the old key is known, and no longer.

A process has the keys that it was started with. Here `restart` gives this one others;
tests/serve/test_key_change.py restarts real ones.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from django.conf import settings as django_settings
from django.utils import timezone
from pytest_django import Settings

from accounts import session_tokens
from accounts.mailed_tokens import make_reset_token
from accounts.models import Session, User, hash_token
from accounts.signing_keys import key_id
from tasks.models import Task
from tests.client import ApiClient, Browser, assert_error, data_of, meta_of
from tests.conftest import PASSWORD, begin_session
from tests.test_sessions import _payload as payload_of

ME = "/api/auth/me"
REFRESH = "/api/auth/token/refresh"
LOGOUT = "/api/auth/logout"
LIST = "/api/me/tasks"
OLD, NEW, FOREIGN = "old " * 16, "new " * 16, "foreign " * 8

Restart = Callable[..., None]


@pytest.fixture
def restart(settings: Settings) -> Restart:
    """Gives the process keys; the first one signs."""

    def restart_with(*keys: str) -> None:
        settings.JWT_SIGNING_KEY, *settings.JWT_PREVIOUS_SIGNING_KEYS = keys
        session_tokens._verified.clear()

    return restart_with


@pytest.fixture(autouse=True)
def forgetful(restart: Restart) -> None:
    """Tokens that are remembered aren't verified anew."""
    restart(OLD)


def kid_of(token: str) -> Any:
    return jwt.get_unverified_header(token).get("kid")


def signed(token: str, key: str, **header: Any) -> str:
    """The claims of a token, signed anew; without `kid`, unless it is given."""
    return jwt.encode(payload_of(token), key, "HS256", headers=header)


def signed_as_it_is(token: str, key: str, header: str) -> str:
    """The same, with whatever stands in the header: PyJWT makes none that it knows to be wrong."""
    algorithm = jwt.get_algorithm_by_name("HS256")
    encode = jwt.utils.base64url_encode
    text = encode(header.encode(errors="surrogatepass")) + b"." + token.split(".")[1].encode()
    return (text + b"." + encode(algorithm.sign(text, algorithm.prepare_key(key)))).decode()


def test_tokens_name_their_key(alice: User, restart: Restart) -> None:
    old, again = begin_session(alice), begin_session(alice)
    restart(NEW, OLD)
    new = begin_session(alice)

    names = [kid_of(token) for pair in (old, again, new) for token in (pair.access, pair.refresh)]

    assert names == [key_id(OLD)] * 4 + [key_id(NEW)] * 2
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{16}", name) for name in names)
    assert key_id(OLD) != key_id(NEW)
    header = jwt.get_unverified_header(new.access)
    assert header == {"alg": "HS256", "kid": key_id(NEW), "typ": "JWT"}


@pytest.mark.parametrize(
    ("keys", "is_known"),
    [
        pytest.param([OLD], True, id="the key"),
        pytest.param([OLD, NEW], True, id="the next one is known"),
        pytest.param([NEW, OLD], True, id="another signs now"),
        pytest.param([NEW, FOREIGN, OLD], True, id="two others since"),
        pytest.param([NEW], False, id="forgotten"),
        pytest.param([NEW, FOREIGN], False, id="others"),
    ],
)
@pytest.mark.parametrize("has_kid", [True, False], ids=["named", "from before there were names"])
def test_token_is_good_while_its_key_is_known(
    has_kid: bool, keys: list[str], is_known: bool, alice: User, restart: Restart
) -> None:
    pair = begin_session(alice)
    header = {"kid": key_id(OLD)} if has_kid else {}
    access, refresh = signed(pair.access, OLD, **header), signed(pair.refresh, OLD, **header)
    Session.objects.update(refresh_hash=hash_token(refresh))
    restart(*keys)

    response = ApiClient(access).get(ME)
    answer = ApiClient().post(REFRESH, {"refresh": refresh})

    if is_known:
        assert response.status_code == 200
        fresh = data_of(answer)
        assert [kid_of(fresh[name]) for name in ("access", "refresh")] == [key_id(keys[0])] * 2
        assert ApiClient(fresh["access"]).get(ME).status_code == 200
    else:
        assert_error(response, 401, "TOKEN_INVALID")
        assert_error(answer, 401, "TOKEN_INVALID")
        assert Session.objects.filter(ended_at=None).exists()


ODD_NAMES: dict[str, Any] = {
    "unknown": key_id(FOREIGN),
    "empty": "",
    "longer": key_id(OLD) + "A",
    "in another case": key_id(OLD).swapcase(),
    "with white space": f" {key_id(OLD)}",
    "path": "../../../../dev/null",
    "file": "file:///proc/self/environ",
    "address": "https://evil.example.com/jwks.json",
    "SQL": "' UNION SELECT 'x' -- ",
    "command": "$(id)",
    "template": "{{ settings.SECRET_KEY }}",
    "NUL": "\0",
    "half a surrogate pair": "\ud800",
    "not ASCII": "ключ",
    "long": "k" * 1000,
    "the key itself": OLD,
    "number": 1,
    "zero": 0,
    "huge number": 10**400,
    "not a number": float("nan"),
    "true": True,
    "null": None,
    "list": [key_id(OLD)],
    "object": {"kid": key_id(OLD)},
    "deep": json.loads("[" * 200 + "]" * 200),
}
odd_names = pytest.mark.parametrize("kid", ODD_NAMES.values(), ids=ODD_NAMES)


def with_kid(token: str, kid: Any) -> str:
    header = json.dumps({"alg": "HS256", "typ": "JWT", "kid": kid})
    return signed_as_it_is(token, OLD, header)


@odd_names
def test_odd_name_of_a_key(kid: Any, alice: User) -> None:
    """Although a known key has signed it. Nothing is looked up by a name but the known ones."""
    access = with_kid(begin_session(alice).access, kid)

    assert_error(ApiClient(access).get(ME), 401, "TOKEN_INVALID")


def test_huge_name_of_a_key(alice: User) -> None:
    """As large as headers may be."""
    access = with_kid(begin_session(alice).access, "k" * 11_000)

    assert_error(ApiClient(access).get(ME), 401, "TOKEN_INVALID")


@odd_names
def test_odd_name_of_the_key_of_an_expired_token(kid: Any, alice: User) -> None:
    past = jwt.encode({**payload_of(begin_session(alice).access), "exp": 2, "iat": 1}, OLD)

    assert_error(ApiClient(with_kid(past, kid)).get(ME), 401, "TOKEN_INVALID")


@odd_names
@pytest.mark.parametrize("path", [REFRESH, LOGOUT])
def test_odd_name_of_the_key_of_a_refresh_token(
    path: str, kid: Any, alice: User, client: ApiClient
) -> None:
    refresh = with_kid(begin_session(alice).refresh, kid)

    assert_error(client.post(path, {"refresh": refresh}), 401, "TOKEN_INVALID")
    assert Session.objects.filter(ended_at=None).exists()


@pytest.mark.parametrize(
    ("key", "header"),
    [
        pytest.param(OLD, {"kid": key_id(NEW)}, id="signed by another known key than it names"),
        pytest.param(FOREIGN, {"kid": key_id(NEW)}, id="names a known key"),
        pytest.param(FOREIGN, {}, id="names none"),
        pytest.param(FOREIGN, {"jwk": {"kty": "oct", "k": "Zm9yZWlnbg"}}, id="brings its key"),
        pytest.param(FOREIGN, {"jku": "https://evil.example.com/jwks.json"}, id="says where it is"),
        pytest.param(FOREIGN, {"x5u": "https://evil.example.com/x.pem"}, id="or its certificate"),
        pytest.param("", {"alg": "none"}, id="no signature, no name"),
        pytest.param("", {"alg": "none", "kid": key_id(NEW)}, id="no signature"),
        pytest.param(NEW, {"alg": "HS512", "kid": key_id(NEW)}, id="another algorithm"),
        pytest.param(OLD, {"alg": "HS512"}, id="another algorithm, no name"),
        pytest.param(OLD, {"alg": "HS256", "crit": ["kid"], "kid": key_id(OLD)}, id="critical"),
    ],
)
def test_forged_tokens_are_refused(
    key: str, header: dict[str, Any], alice: User, restart: Restart, client: ApiClient
) -> None:
    restart(NEW, OLD)
    pair = begin_session(alice)

    access, refresh = (
        jwt.encode(payload_of(token), key, header.get("alg", "HS256"), headers=header)
        if "crit" not in header
        else signed_as_it_is(token, key, json.dumps(header))
        for token in (pair.access, pair.refresh)
    )

    assert_error(ApiClient(access).get(ME), 401, "TOKEN_INVALID")
    assert_error(client.post(REFRESH, {"refresh": refresh}), 401, "TOKEN_INVALID")


@pytest.mark.parametrize("has_kid", [True, False], ids=["named", "from before there were names"])
def test_expired_token_of_an_old_key_is_told_apart(
    has_kid: bool, alice: User, restart: Restart
) -> None:
    payload = payload_of(begin_session(alice).access)
    past = {**payload, "exp": int(timezone.now().timestamp()) - 61}
    header = {"kid": key_id(OLD)} if has_kid else {}
    restart(NEW, OLD)

    response = ApiClient(jwt.encode(past, OLD, headers=header)).get(ME)

    assert_error(response, 401, "TOKEN_EXPIRED")


# The keys of the process that refreshes, and whose answer is lost; those of the one asked again.
LOST_ANSWERS = {
    "before": ([OLD], [OLD, NEW]),
    "the second step, forth": ([NEW, OLD], [OLD, NEW]),
    "the second step, back": ([OLD, NEW], [NEW, OLD]),
    "of many": ([OLD, NEW], [NEW, FOREIGN, OLD]),
    "after": ([NEW, OLD], [NEW]),
}


@pytest.mark.parametrize(("here", "there"), LOST_ANSWERS.values(), ids=LOST_ANSWERS)
def test_lost_answer_is_made_again_with_the_key_that_made_it(
    here: list[str], there: list[str], alice: User, restart: Restart, client: ApiClient
) -> None:
    """[S2] And goes on with the key of whoever refreshes next."""
    restart(here[0])
    first = begin_session(alice)
    restart(*here)
    lost = data_of(client.post(REFRESH, {"refresh": first.refresh}))
    restart(*there)

    again = data_of(client.post(REFRESH, {"refresh": first.refresh}))

    assert (again["access"], again["refresh"]) == (lost["access"], lost["refresh"])
    assert kid_of(again["access"]) == kid_of(again["refresh"]) == key_id(here[0])
    assert ApiClient(again["access"]).get(ME).status_code == 200
    following = data_of(client.post(REFRESH, {"refresh": again["refresh"]}))
    assert kid_of(following["refresh"]) == key_id(there[0])


def test_lost_answer_of_an_unknown_key_is_not_made_again(
    alice: User, restart: Restart, client: ApiClient
) -> None:
    """[S2] As where a step was left out. The session lives: nobody has stolen anything."""
    first = begin_session(alice)
    restart(NEW, OLD)
    lost = data_of(client.post(REFRESH, {"refresh": first.refresh}))
    restart(OLD)

    assert_error(client.post(REFRESH, {"refresh": first.refresh}), 401, "TOKEN_INVALID")

    restart(NEW, OLD)
    assert ApiClient(lost["access"]).get(ME).status_code == 200


# --- SECRET_KEY: whatever Django signs -----------------------------------------------------------

SECRET_KEYS = {
    "the next one is known": ([OLD, NEW], True),
    "another signs now": ([NEW, OLD], True),
    "forgotten": ([NEW], False),
}
secret_keys = pytest.mark.parametrize(("keys", "is_known"), SECRET_KEYS.values(), ids=SECRET_KEYS)


@pytest.fixture
def restart_django(settings: Settings) -> Restart:
    """Gives the process keys that cursors, links and admin's sessions are signed with."""

    def restart_with(*keys: str) -> None:
        settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS = keys

    restart_with(OLD)
    return restart_with


@secret_keys
def test_cursor_outlives_its_key(
    keys: list[str], is_known: bool, alice: User, alice_client: ApiClient, restart_django: Restart
) -> None:
    """[L1]"""
    Task.objects.bulk_create(Task(user=alice, title=f"{n}") for n in range(3))
    page = {"limit": 1, "ordering": "title"}
    cursor = meta_of(alice_client.get(LIST, query=page))["next_cursor"]
    restart_django(*keys)

    response = alice_client.get(LIST, query={**page, "cursor": cursor})

    if is_known:
        assert [task["title"] for task in data_of(response)] == ["1"]
    else:
        assert_error(response, 400, "VALIDATION_ERROR")
    restart_django(keys[0])  # the next page is signed by the present key
    fresh = meta_of(alice_client.get(LIST, query=page))["next_cursor"]
    assert data_of(alice_client.get(LIST, query={**page, "cursor": fresh}))


@secret_keys
def test_link_of_a_mail_outlives_its_key(
    keys: list[str], is_known: bool, alice: User, client: ApiClient, restart_django: Restart
) -> None:
    """[S3]"""
    body = {"token": make_reset_token(alice), "new_password": "staple battery horse correct"}
    restart_django(*keys)

    response = client.post("/api/auth/password/reset/confirm", body)

    if is_known:
        assert response.status_code == 204
        assert_error(client.post("/api/auth/password/reset/confirm", body), 400, "VALIDATION_ERROR")
    else:
        assert_error(response, 400, "VALIDATION_ERROR")


@pytest.fixture
def olga_admin(olga: User, restart_django: Restart) -> Browser:
    """At admin's pages, signed in by their form, and strict about forgeries as browsers meet it."""
    browser = Browser(enforce_csrf_checks=True)
    browser.get("/admin/login/")
    form = {"username": olga.email, "password": PASSWORD, "csrfmiddlewaretoken": csrf_of(browser)}
    assert browser.post("/admin/login/", form).status_code == 302
    return browser


def csrf_of(browser: Browser) -> str:
    return browser.cookies[django_settings.CSRF_COOKIE_NAME].value


@secret_keys
def test_operator_stays_signed_in(
    keys: list[str], is_known: bool, olga_admin: Browser, restart_django: Restart
) -> None:
    """At every request, however often processes with one key first and the other take turns."""
    restart_django(*keys)

    assert olga_admin.get("/admin/").status_code == (200 if is_known else 302)

    if is_known:
        for turn in (keys[::-1], keys, keys[::-1], keys, keys[:1]):
            restart_django(*turn)
            assert olga_admin.get("/admin/").status_code == 200


USERS = "/admin/accounts/user/"


def deactivate(user: User, browser: Browser) -> Any:
    form = {"action": "deactivate", "_selected_action": [str(user.pk)]}
    return browser.post(USERS, {**form, "csrfmiddlewaretoken": csrf_of(browser)})


@secret_keys
def test_form_that_was_open_is_taken(
    keys: list[str], is_known: bool, olga_admin: Browser, restart_django: Restart, alice: User
) -> None:
    """No key has made what protects it from forgeries; whose form it is, the session tells."""
    olga_admin.get(USERS)
    restart_django(*keys)

    response = deactivate(alice, olga_admin)

    alice.refresh_from_db()
    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/") is not is_known
    assert alice.is_active is not is_known


@secret_keys
def test_notice_outlives_its_key(
    keys: list[str], is_known: bool, olga_admin: Browser, restart_django: Restart, alice: User
) -> None:
    """What admin says after a change stands in a signed cookie until the next page."""
    assert deactivate(alice, olga_admin).status_code == 302
    assert "messages" in olga_admin.cookies
    restart_django(*keys)

    page = olga_admin.get(USERS).content.decode()

    assert ("Deactivated 1 user." in page) is is_known
