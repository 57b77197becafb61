"""Tokens and the sessions behind them."""

import json
import threading
import time
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection, connections
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.models import Session, User, hash_token
from accounts.session_tokens import Claims, TokenPair, issue_pair
from tests.client import ApiClient, assert_error, data_of
from tests.conftest import PASSWORD, begin_session
from todo_project.api.limits import Counter, count
from todo_project.environment import Rate
from todo_project.models import RateCounter

ME = "/api/auth/me"
REFRESH = "/api/auth/token/refresh"
LOGOUT = "/api/auth/logout"
SESSIONS = "/api/auth/sessions"


def _payload(token: str) -> dict[str, Any]:
    payload: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return payload


def _signed(payload: dict[str, Any], key: str = settings.JWT_SIGNING_KEY, **kwargs: Any) -> str:
    return jwt.encode(payload, key, **{"algorithm": "HS256", **kwargs})


def _written(moment: Any) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"


def test_claims(alice: User) -> None:
    """[S1]"""
    pair = begin_session(alice)

    access, refresh = _payload(pair.access), _payload(pair.refresh)

    assert access.keys() == {"sub", "sid", "jti", "iss", "aud", "iat", "exp", "token_type"}
    assert (access["sub"], access["token_type"]) == (str(alice.pk), "access")
    assert access["sid"] == refresh["sid"] == str(Session.objects.get().pk)
    assert access["exp"] - access["iat"] == 15 * 60
    assert refresh["exp"] - refresh["iat"] == 14 * 24 * 3600
    assert jwt.get_unverified_header(pair.access)["alg"] == "HS256"
    assert settings.JWT_SIGNING_KEY != settings.SECRET_KEY


def test_only_hashes_of_refresh_tokens_are_kept(alice: User, client: ApiClient) -> None:
    """[S1]"""
    pair = begin_session(alice)
    client.post(REFRESH, {"refresh": pair.refresh})

    stored = str(list(Session.objects.values()))

    assert hash_token(pair.refresh) in stored
    assert pair.refresh not in stored
    assert pair.refresh.rsplit(".")[-1] not in stored


def test_refresh_answers_a_new_pair(alice: User, client: ApiClient) -> None:
    """[S1] The old access token lives on. Of the old refresh token: test_refresh.py."""
    pair = begin_session(alice)

    fresh = data_of(client.post(REFRESH, {"refresh": pair.refresh}))

    assert fresh["expires_in"] == 900
    assert fresh["refresh"] != pair.refresh
    assert ApiClient(fresh["access"]).get(ME).status_code == 200
    assert ApiClient(pair.access).get(ME).status_code == 200


def test_tokens_never_outlive_ninety_days_from_the_sign_in(alice: User, client: ApiClient) -> None:
    """[S1]"""
    pair = begin_session(alice)
    long_ago = int((timezone.now() - timedelta(days=90) + timedelta(minutes=5)).timestamp())
    old = _signed({**_payload(pair.refresh), "auth_time": long_ago})
    Session.objects.update(refresh_hash=hash_token(old))

    fresh = data_of(client.post(REFRESH, {"refresh": old}))

    assert 0 < fresh["expires_in"] <= 300
    assert _payload(fresh["refresh"])["exp"] == long_ago + 90 * 24 * 3600
    assert _payload(fresh["access"])["exp"] == long_ago + 90 * 24 * 3600
    assert Session.objects.get().expires_at <= timezone.now() + timedelta(minutes=5)


def test_expired_session_is_over(alice: User, alice_client: ApiClient) -> None:
    """[S1]"""
    Session.objects.update(expires_at=timezone.now())

    assert_error(alice_client.get(ME), 401, "TOKEN_INVALID")


def test_logout_takes_effect_at_once_and_can_be_repeated(alice: User, client: ApiClient) -> None:
    """[S3] No access token is needed; other sessions live."""
    here, elsewhere = begin_session(alice), begin_session(alice)

    for _ in range(2):
        response = client.post(LOGOUT, {"refresh": here.refresh})
        assert (response.status_code, response.content) == (204, b"")

    assert_error(ApiClient(here.access).get(ME), 401, "TOKEN_INVALID")
    assert_error(client.post(REFRESH, {"refresh": here.refresh}), 401, "TOKEN_INVALID")
    assert ApiClient(elsewhere.access).get(ME).status_code == 200


def test_logout_all_ends_every_session_at_once(alice: User, bob: User) -> None:
    """[S3]"""
    here, elsewhere, bobs = begin_session(alice), begin_session(alice), begin_session(bob)

    response = ApiClient(here.access).post("/api/auth/logout-all")

    assert (response.status_code, response.content) == (204, b"")
    for pair in (here, elsewhere):
        assert_error(ApiClient(pair.access).get(ME), 401, "TOKEN_INVALID")
        assert_error(ApiClient().post(REFRESH, {"refresh": pair.refresh}), 401, "TOKEN_INVALID")
    assert ApiClient(bobs.access).get(ME).status_code == 200


def test_sessions_are_listed(alice: User, bob: User, client: ApiClient) -> None:
    begin_session(bob)
    old, ended = begin_session(alice), begin_session(alice)
    client.post(LOGOUT, {"refresh": ended.refresh})
    credentials = {"email": alice.email, "password": PASSWORD}
    pair = data_of(client.post("/api/auth/token", credentials, user_agent="Phone"))
    fresh = data_of(client.post(REFRESH, {"refresh": pair["refresh"]}))

    listed = data_of(ApiClient(fresh["access"]).get(SESSIONS))

    here, there = Session.objects.filter(user=alice, ended_at=None).order_by("-created_at")
    assert listed == [
        {
            "id": str(here.pk),
            "user_agent": "Phone",
            "address": "127.0.0.1",
            "created_at": _written(here.created_at),
            "last_used_at": _written(here.rotated_at),
            "expires_at": _written(here.expires_at),
            "is_current": True,
        },
        {
            "id": _payload(old.access)["sid"],
            "user_agent": "",
            "address": None,
            "created_at": _written(there.created_at),
            "last_used_at": _written(there.created_at),
            "expires_at": _written(there.expires_at),
            "is_current": False,
        },
    ]
    assert here.rotated_at > here.created_at


@pytest.mark.parametrize("number", [1, 50])
def test_session_list_costs_one_query(
    number: int, alice: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    pairs = [begin_session(alice) for _ in range(number)]

    with django_assert_num_queries(1 + 1):
        assert len(data_of(ApiClient(pairs[0].access).get(SESSIONS))) == number


def test_session_is_ended_at_once(alice: User) -> None:
    """[S3]"""
    here, elsewhere = begin_session(alice), begin_session(alice)
    path = f"{SESSIONS}/{_payload(elsewhere.access)['sid']}"

    response = ApiClient(here.access).delete(path)

    assert (response.status_code, response.content) == (204, b"")
    assert_error(ApiClient(elsewhere.access).get(ME), 401, "TOKEN_INVALID")
    assert_error(ApiClient(here.access).delete(path), 404, "NOT_FOUND")


def test_own_session_can_be_ended(alice: User) -> None:
    """[S3]"""
    here = begin_session(alice)

    response = ApiClient(here.access).delete(f"{SESSIONS}/{_payload(here.access)['sid']}")

    assert response.status_code == 204
    assert_error(ApiClient(here.access).get(ME), 401, "TOKEN_INVALID")


def test_session_is_ended_by_its_id_in_capitals(alice: User) -> None:
    """[B5]"""
    here = begin_session(alice)

    response = ApiClient(here.access).delete(f"{SESSIONS}/{_payload(here.access)['sid'].upper()}")

    assert response.status_code == 204
    assert_error(ApiClient(here.access).get(ME), 401, "TOKEN_INVALID")


@pytest.mark.parametrize("case", ["another person's", "absent", "malformed", "without dashes"])
def test_other_sessions_are_absent(case: str, alice: User, bob: User) -> None:
    here, bobs = begin_session(alice), begin_session(bob)
    session_id = {
        "another person's": _payload(bobs.access)["sid"],
        "absent": str(uuid4()),
        "malformed": "1",
        "without dashes": _payload(here.access)["sid"].replace("-", ""),
    }[case]

    for body in ({}, {"x": 1}):
        response = ApiClient(here.access).delete(f"{SESSIONS}/{session_id}", body)
        assert_error(response, 404, "NOT_FOUND")

    for pair in (here, bobs):
        assert ApiClient(pair.access).get(ME).status_code == 200


@pytest.mark.django_db(transaction=True, databases=["default", "direct"])
def test_purge_removes_what_has_expired_in_batches(alice: User) -> None:
    pairs = [begin_session(alice) for _ in range(7)]
    expired = [_payload(pair.access)["sid"] for pair in pairs[:5]]
    Session.objects.filter(pk__in=expired).update(expires_at=Now() - timedelta(seconds=1))
    count(Counter("sign-in", Rate(1, 60), uuid4()))
    RateCounter.objects.update(expires_at=Now() - timedelta(seconds=1))
    count(Counter("sign-in", Rate(1, 60), uuid4()))

    with CaptureQueriesContext(connections["direct"]) as captured:
        call_command("purge_expired", "--batch", "2")

    deletions = [
        q["sql"] for q in captured if q["sql"].startswith('DELETE FROM "accounts_session"')
    ]
    assert len(deletions) == 3
    assert Session.objects.count() == 2
    assert RateCounter.objects.count() == 1
    assert ApiClient(pairs[6].access).get(ME).status_code == 200


@pytest.mark.django_db(transaction=True, databases=["default", "direct"])
def test_purge_waits_for_nobody(alice: User) -> None:
    """It leaves a row that somebody has locked to the next run."""
    for _ in range(3):
        begin_session(alice)
    Session.objects.update(expires_at=Now() - timedelta(seconds=1))
    locked = Session.objects.all()[0].pk
    other = connection.copy()
    other.set_autocommit(False)
    other.inc_thread_sharing()
    with closing(other), other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM accounts_session WHERE id = %s FOR UPDATE", [locked])
        release = threading.Timer(5, other.rollback)  # a purge that waits goes on, and deletes it
        release.start()

        call_command("purge_expired")

        release.cancel()
        assert [session.pk for session in Session.objects.all()] == [locked]
    call_command("purge_expired")
    assert not Session.objects.exists()


def test_inactive_person_cannot_refresh(alice: User, client: ApiClient) -> None:
    """[S3]"""
    pair = begin_session(alice)
    User.objects.get_queryset().filter(pk=alice.pk).update(is_active=False)

    assert_error(client.post(REFRESH, {"refresh": pair.refresh}), 401, "TOKEN_INVALID")


def test_fifty_sessions_a_person(alice: User, bob: User, client: ApiClient) -> None:
    """The oldest ends when one more begins; other people's are left alone."""
    bobs = begin_session(bob)
    pairs = [begin_session(alice) for _ in range(50)]

    data_of(client.post("/api/auth/token", {"email": alice.email, "password": PASSWORD}))

    assert_error(ApiClient(pairs[0].access).get(ME), 401, "TOKEN_INVALID")
    assert ApiClient(pairs[1].access).get(ME).status_code == 200
    assert ApiClient(bobs.access).get(ME).status_code == 200
    assert Session.objects.filter(user=alice, ended_at=None).count() == 50


def _forged(case: str, access: str, refresh: str) -> str:
    payload = _payload(access)
    now = int(timezone.now().timestamp())
    key = settings.JWT_SIGNING_KEY
    match case:
        case "refresh token":
            return refresh
        case "expired refresh token":
            return _signed({**_payload(refresh), "exp": now - 3600})
        case "algorithm none":
            return jwt.encode(payload, "", algorithm="none")
        case "algorithm HS512":
            return _signed(payload, algorithm="HS512")
        case "other key":
            return _signed(payload, "k" * 50)
        case "Django's key":
            return _signed(payload, settings.SECRET_KEY)
        case "foreign issuer":
            return _signed({**payload, "iss": "someone else"})
        case "foreign audience":
            return _signed({**payload, "aud": "someone else"})
        case "future iat":
            return _signed({**payload, "iat": now + 3600, "exp": now + 7200})
        case "other person":
            return _signed({**payload, "sub": str(uuid4())})
        case "other session":
            return _signed({**payload, "sid": str(uuid4())})
        case "malformed ids":
            return _signed({**payload, "sub": "1", "sid": "2"})
        case "ids of another type":
            return _signed({**payload, "sid": ["x"]})
        case "times of another type":
            return _signed({**payload, "iat": "now"})
        case "huge time":
            return _signed({**payload, "iat": 1, "exp": 10**400})
        case "tampered payload":
            head, _, signature = access.split(".")
            body = _signed({**payload, "sub": str(uuid4())}, "k" * 50).split(".")[1]
            return f"{head}.{body}.{signature}"
        case "cut off":
            return access[:-5]
        case "16 KB":
            return access + "A" * 15_000
        case "deep header":
            import base64

            head = base64.urlsafe_b64encode(b"[" * 9000).decode().rstrip("=")
            return f"{head}.{access.split('.')[1]}.{access.split('.')[2]}"
        case "not ASCII":
            return "t\xf6ken"
        case "two tokens":
            return f"{access} {access}"
        case "nothing":
            return ""
        case "dots":
            return ".."
    missing = case.removeprefix("without ")
    return _signed({name: value for name, value in payload.items() if name != missing}, key)


@pytest.mark.parametrize(
    "case",
    [
        "refresh token",
        "expired refresh token",
        "algorithm none",
        "algorithm HS512",
        "other key",
        "Django's key",
        "foreign issuer",
        "foreign audience",
        "future iat",
        "other person",
        "other session",
        "malformed ids",
        "ids of another type",
        "times of another type",
        "huge time",
        "tampered payload",
        "cut off",
        "16 KB",
        "deep header",
        "not ASCII",
        "two tokens",
        "nothing",
        "dots",
        "without sub",
        "without sid",
        "without jti",
        "without iss",
        "without aud",
        "without iat",
        "without exp",
        "without token_type",
    ],
)
def test_forged_access_tokens_are_refused(case: str, alice: User) -> None:
    """[S1]"""
    pair = begin_session(alice)
    client = ApiClient(_forged(case, pair.access, pair.refresh))

    response = client.get(ME)

    assert_error(response, 401, "TOKEN_INVALID")
    assert response["WWW-Authenticate"].startswith('Bearer realm="api", error="invalid_token"')


def test_expired_access_token_is_told_apart(alice: User) -> None:
    """[S1]"""
    payload = _payload(begin_session(alice).access)
    past = _signed({**payload, "exp": int(timezone.now().timestamp()) - 61})

    response = ApiClient(past).get(ME)

    assert_error(response, 401, "TOKEN_EXPIRED")
    assert 'error="invalid_token"' in response["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("claim", "seconds", "code"),
    [
        ("iat", 1, None),
        ("iat", 50, None),
        ("iat", 70, "TOKEN_INVALID"),
        ("exp", -1, None),
        ("exp", -50, None),
        ("exp", -70, "TOKEN_EXPIRED"),
    ],
)
def test_clocks_of_instances_may_differ_by_a_minute(
    claim: str, seconds: int, code: str | None, alice: User
) -> None:
    """[S1] The token of an instance that is ahead is not from the future, nor too soon expired."""
    payload = _payload(begin_session(alice).access)
    moment = int(timezone.now().timestamp()) + seconds

    response = ApiClient(_signed({**payload, claim: moment})).get(ME)

    if code is None:
        data_of(response)
    else:
        assert_error(response, 401, code)


def test_clocks_may_differ_at_every_sight_of_a_token(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[S1] A token that is remembered expires at the same time as one that is not."""
    payload = _payload(begin_session(alice).access)
    now = int(time.time())
    client = ApiClient(_signed({**payload, "exp": now - 30}))
    data_of(client.get(ME))

    monkeypatch.setattr(time, "time", lambda: now + 29.5)
    data_of(client.get(ME))

    monkeypatch.setattr(time, "time", lambda: now + 30.0)
    assert_error(client.get(ME), 401, "TOKEN_EXPIRED")


# What JSON can say and nobody issues; some of it no clock, float or date can hold.
ODD_VALUES: dict[str, Any] = {
    "huge": 10**18,
    "beyond all floats": 10**400,
    "negative": -1,
    "far below zero": -(10**400),
    "fraction": 1.5,
    "not a number": float("nan"),
    "infinite": float("inf"),
    "infinitely negative": float("-inf"),
    "text": "x",
    "half a surrogate pair": "\ud800",
    "true": True,
    "null": None,
    "list": ["x"],
    "object": {"x": 1},
    "lists in lists": json.loads("[" * 200 + "]" * 200),
}
OWN_CLAIMS = ("sub", "sid", "jti", "iss", "aud", "iat", "exp", "nbf", "auth_time", "token_type")
odd_claims = pytest.mark.parametrize(
    ("claim", "value"),
    [
        pytest.param(claim, value, id=f"{claim} {name}")
        for claim in OWN_CLAIMS
        for name, value in ODD_VALUES.items()
        if not (claim == "jti" and isinstance(value, str))  # any text is an id of a token
    ],
)


def _signed_as_it_is(payload: bytes) -> str:
    """PyJWT makes none that it knows to be wrong."""
    return jwt.PyJWS().encode(payload, settings.JWT_SIGNING_KEY, algorithm="HS256")


def _with(claims: dict[str, Any], token: str) -> str:
    return _signed_as_it_is(json.dumps(_payload(token) | claims).encode())


def _stranger() -> TokenPair:
    """Well-signed tokens of a session that there isn't: it is never looked up."""
    return issue_pair(Claims(user_id=uuid4(), session_id=uuid4(), signed_in_at=timezone.now()))


@odd_claims
def test_odd_claim_of_an_access_token(claim: str, value: Any) -> None:
    """[S1] Without the database: pytest-django would refuse it."""
    access = _with({claim: value}, _stranger().access)

    assert_error(ApiClient(access).get(ME), 401, "TOKEN_INVALID")


@odd_claims
def test_odd_claim_of_an_expired_access_token(claim: str, value: Any) -> None:
    """[S1] Whose it is, and who issued it, is looked at after its time."""
    access = _with({"iat": 1, "exp": 2, claim: value}, _stranger().access)

    is_sane = claim in ("sub", "sid", "iss") and type(value) is str
    assert_error(ApiClient(access).get(ME), 401, "TOKEN_EXPIRED" if is_sane else "TOKEN_INVALID")


@odd_claims
def test_odd_claim_of_a_refresh_token(claim: str, value: Any, client: ApiClient) -> None:
    """[S1]"""
    refresh = _with({claim: value}, _stranger().refresh)

    assert_error(client.post(REFRESH, {"refresh": refresh}), 401, "TOKEN_INVALID")


@pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES)
def test_claim_that_nobody_reads_is_ignored(value: Any, alice: User) -> None:
    """RFC 7519, section 4."""
    access = _with({"other": value}, begin_session(alice).access)

    assert ApiClient(access).get(ME).status_code == 200


@pytest.mark.parametrize("value", ["[" * 5000 + "]" * 5000, "1" * 5000], ids=["deep", "long"])
def test_claims_that_can_not_be_read(value: str) -> None:
    """By Python's json, although they are JSON."""
    claims = json.dumps(_payload(_stranger().access)).rstrip("}")
    access = _signed_as_it_is(f'{claims}, "other": {value}}}'.encode())

    assert_error(ApiClient(access).get(ME), 401, "TOKEN_INVALID")


@pytest.mark.parametrize("header", ["Basic eDp5", "Token x", "", "bearer"])
def test_other_schemes_are_no_credentials(header: str, client: ApiClient) -> None:
    code = "TOKEN_INVALID" if header == "bearer" else "NOT_AUTHENTICATED"

    assert_error(client.get(ME, authorization=header), 401, code)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_scheme_is_read_in_any_case(scheme: str, alice: User, client: ApiClient) -> None:
    access = begin_session(alice).access

    assert client.get(ME, authorization=f"{scheme} {access}").status_code == 200


@pytest.mark.parametrize("path", [REFRESH, LOGOUT])
@pytest.mark.parametrize(
    "case", ["access token", "expired", "other key", "algorithm none", "nonsense", "without jti"]
)
def test_forged_refresh_tokens_are_refused(
    case: str, path: str, alice: User, client: ApiClient
) -> None:
    """[S1]"""
    pair = begin_session(alice)
    payload = _payload(pair.refresh)
    forged = {
        "access token": pair.access,
        "expired": _signed({**payload, "exp": int(timezone.now().timestamp()) - 61}),
        "other key": _signed(payload, "k" * 50),
        "algorithm none": jwt.encode(payload, "", algorithm="none"),
        "nonsense": "nonsense",
        "without jti": _signed({k: v for k, v in payload.items() if k != "jti"}),
    }[case]

    assert_error(client.post(path, {"refresh": forged}), 401, "TOKEN_INVALID")

    assert ApiClient(pair.access).get(ME).status_code == 200
