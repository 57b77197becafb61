"""How the keys of an identity provider are fetched and kept, and what its outages do."""

import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from jwt.algorithms import OKPAlgorithm

from accounts import fetching, issuers, jwks
from accounts.fetching import FetchError
from accounts.issuers import OutsideClaims, read_outside
from accounts.jwks import IssuerKeys, UnusableKeyError, discover, fetch_key_set, read_key
from tests.issuer import Issuer, b64, private_jwk, private_key, public_jwk
from todo_project.api.errors import IssuerUnavailable, TokenInvalid

HOUR = 3600


def read(token: str) -> OutsideClaims:
    return read_outside(token.encode())


class Clock:
    """That by which the life of a key set is counted: it stands, and is put forward by tests."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.runs = False
        self._began = time.monotonic()

    def __call__(self) -> float:
        return (time.monotonic() if self.runs else self._began) + self.ahead


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (jwks, fetching):
        monkeypatch.setattr(module, "monotonic", clock)
    return clock


@pytest.fixture(autouse=True)
def no_fetch_is_left() -> Iterator[None]:
    yield
    settle()


def settle() -> None:
    """Waits until no fetch runs."""
    for thread in threading.enumerate():
        if thread.name == "issuer-keys":
            thread.join(10)


@pytest.fixture
def impatient(settings: Any, clock: Clock) -> None:
    """Fetches end after a quarter of a second in place of three."""
    settings.ISSUER_TIME_LIMIT_SECONDS = 0.25
    clock.runs = True


@pytest.fixture
def patient(settings: Any) -> None:
    """However busy the machine is that the test runs on."""
    settings.ISSUER_TIME_LIMIT_SECONDS = settings.ISSUER_PATIENCE_SECONDS = 30


@pytest.fixture
def debug(settings: Any) -> None:
    """With which keys may come in the clear, from loopback."""
    settings.DEBUG = True


def test_bounds(settings: Any) -> None:
    """[A2] As the contract has them."""
    assert settings.ISSUER_TIME_LIMIT_SECONDS == 3
    assert settings.ISSUER_PATIENCE_SECONDS < settings.TURN_TIME_LIMIT_SECONDS
    assert settings.ISSUER_DOCUMENT_MAX_BYTES == 65_536
    assert settings.ISSUER_KEYS_MAX == 64
    assert settings.ISSUER_FORCED_INTERVAL_SECONDS == 30
    assert settings.ISSUER_REST_SECONDS == 10
    assert settings.ISSUER_KEYS_FRESH.total_seconds() == 600
    assert settings.ISSUER_KEYS_GOOD.total_seconds() == 24 * HOUR


def test_keys_are_fetched_at_first_need(issuer: Issuer) -> None:
    """[A2] Not before, and once for all that come then."""
    issuers.key_source()
    assert issuer.requests == []

    for number in range(5):
        read(issuer.token(sub=f"person-{number}"))

    assert issuer.requests == ["/jwks"]


@pytest.mark.usefixtures("patient")
def test_first_requests_share_a_fetch(issuer: Issuer) -> None:
    """[A2] Sixteen at once."""
    issuer.mode = "slow"
    tokens = [issuer.token(sub=f"person-{number}") for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        read_all = [pool.submit(read, token) for token in tokens]
        while not issuer.requests:
            time.sleep(0.001)
        issuer.go_on.set()

        subjects = {reading.result().subject for reading in read_all}

    assert subjects == {f"person-{number}" for number in range(16)}
    assert issuer.requests == ["/jwks"]


def test_keys_are_renewed_behind_the_back(issuer: Issuer, clock: Clock) -> None:
    """[A2] After 10 minutes, by one fetch; the old ones serve meanwhile, without waiting."""
    token = issuer.token()
    read(token)
    clock.ahead = 599
    read(token)
    settle()
    assert issuer.requests == ["/jwks"]

    clock.ahead = 601
    issuer.mode = "slow"
    for number in range(20):
        assert read(issuer.token(sub=f"person-{number}")).subject == f"person-{number}"
    issuer.go_on.set()
    settle()
    read(token)
    settle()
    assert issuer.requests == ["/jwks"] * 2


@pytest.mark.usefixtures("patient")
def test_old_keys_are_renewed_first(issuer: Issuer, clock: Clock) -> None:
    """[A2] After 20 minutes in which nobody came: a key that was taken away verifies nothing."""
    token = issuer.token()
    read(token)
    issuer.rotate()
    clock.ahead = 1199
    assert read(token).subject == "ada"
    settle()
    assert issuer.requests == ["/jwks"] * 2

    token = issuer.token()
    assert read(token).subject == "ada"
    issuer.rotate()
    clock.ahead += 1201
    with pytest.raises(TokenInvalid):
        read(token)
    assert issuer.requests[:3] == ["/jwks"] * 3


def test_old_keys_serve_where_the_issuer_hangs(issuer: Issuer, clock: Clock, settings: Any) -> None:
    """[A2] After a second, for all together; and after a failure nobody waits."""
    settings.ISSUER_TIME_LIMIT_SECONDS = 30
    settings.ISSUER_PATIENCE_SECONDS = 0.05
    read(issuer.token())
    clock.ahead = 1201
    issuer.mode = "slow"

    assert read(issuer.token(sub="bob")).subject == "bob"
    assert issuer.requests == ["/jwks"] * 2
    issuer.go_on.set()
    settle()


@pytest.mark.usefixtures("patient")
def test_old_keys_serve_without_waiting_after_a_failure(
    issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[A2] An outage of hours makes nobody slow."""
    read(issuer.token())
    clock.ahead = 1201
    issuer.mode = "status"
    assert read(issuer.token(sub="bob")).subject == "bob"
    settle()

    clock.ahead += 11
    monkeypatch.setattr(threading.Event, "wait", _must_not_wait)
    assert read(issuer.token(sub="eve")).subject == "eve"
    settle()
    assert issuer.requests == ["/jwks"] * 3


def test_tokens_stay_known_where_the_keys_stay(
    issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[A2] To fetch the same set again costs nobody a signature."""
    token = issuer.token()
    read(token)
    clock.ahead = 601
    read(token)
    settle()
    assert issuer.requests == ["/jwks"] * 2

    monkeypatch.setattr(issuers, "verify", None)
    assert read(token).subject == "ada"


def test_remembered_token_falls_with_its_key(issuer: Issuer, clock: Clock) -> None:
    """[A2] As soon as the set without the key is known."""
    token = issuer.token()
    read(token)
    issuer.rotate()
    assert read(token).subject == "ada"  # nobody knows yet

    read(issuer.token())

    for clock.ahead in (0, 31):
        with pytest.raises(TokenInvalid):
            read(token)


def test_rotation_needs_no_waiting(issuer: Issuer, clock: Clock) -> None:
    """[A2] The first token of a new key works at once, also where the set was just fetched."""
    read(issuer.token())
    clock.ahead = 601
    read(issuer.token())
    settle()
    old = issuer.token(sub="old")

    issuer.rotate(keep_old=True)

    assert read(issuer.token(sub="new")).subject == "new"
    assert read(old).subject == "old"
    assert issuer.requests == ["/jwks"] * 3


@pytest.mark.usefixtures("patient")
def test_rotation_under_load(issuer: Issuer) -> None:
    """[A2] All who come with the new key share the fetch, and none is refused."""
    read(issuer.token())
    issuer.rotate(keep_old=True)
    issuer.mode = "slow"
    tokens = [issuer.token(sub=f"person-{number}") for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        read_all = [pool.submit(read, token) for token in tokens]
        while len(issuer.requests) < 2:
            time.sleep(0.001)
        issuer.go_on.set()

        subjects = {reading.result().subject for reading in read_all}

    assert len(subjects) == 16
    assert issuer.requests == ["/jwks"] * 2


def test_unknown_kids_fetch_once_in_thirty_seconds(issuer: Issuer, clock: Clock) -> None:
    """[A2] 10,000 of them; whoever has a good token notices nothing."""
    good = issuer.token()
    read(good)

    def status(number: int) -> int:
        header = b64(json.dumps({"alg": "EdDSA", "kid": f"key-{number}"}).encode())
        with pytest.raises((TokenInvalid, IssuerUnavailable)) as refused:
            read(f"{header}.{good.split('.')[1]}.{b64(b'forged')}")
        return int(refused.value.status_code)

    assert status(1) == 401
    assert {status(number) for number in range(2, 10_001)} == {503}
    assert issuer.requests == ["/jwks"] * 2
    assert read(good).subject == "ada"
    assert read(issuer.token(sub="bob")).subject == "bob"

    clock.ahead = 29
    assert status(1) == 401  # it was asked for, and is not there
    assert len(issuer.requests) == 2
    clock.ahead = 31
    assert status(1) == 401
    assert status(2) == 503
    assert len(issuer.requests) == 3


def test_invented_kids_sign_nobody_out(issuer: Issuer, clock: Clock) -> None:
    """[A2] Whose key is new is asked to come again: it isn't said to be unknown unasked."""
    old = issuer.token(sub="old")
    read(old)
    with pytest.raises(TokenInvalid):
        read(issuer.token(header={"kid": "invented"}))
    issuer.rotate(keep_old=True)
    new = issuer.token(sub="new")

    clock.ahead = 12.5
    with pytest.raises(IssuerUnavailable) as unavailable:
        read(new)
    assert unavailable.value.wait == 18
    assert read(old).subject == "old"

    clock.ahead = 12.5 + 18
    assert read(new).subject == "new"
    assert len(issuer.requests) == 3


def test_unknown_kid_at_first_fetches_once(issuer: Issuer, clock: Clock) -> None:
    """[A2] What was just fetched for the same request is not fetched again, nor waited for."""
    with pytest.raises(TokenInvalid):
        read(issuer.token(header={"kid": "invented"}))
    assert issuer.requests == ["/jwks"]

    issuer.rotate(keep_old=True)
    assert read(issuer.token(sub="new")).subject == "new"
    assert issuer.requests == ["/jwks"] * 2


def test_unknown_kids_in_parallel_fetch_once(issuer: Issuer) -> None:
    """[A2]"""
    read(issuer.token())
    tokens = [issuer.token(header={"kid": f"{number}"}) for number in range(100, 400)]

    with ThreadPoolExecutor(16) as pool:
        refused = [pool.submit(read, token) for token in tokens]
        faults = {type(reading.exception()) for reading in refused}

    assert faults <= {TokenInvalid, IssuerUnavailable}
    assert issuer.requests == ["/jwks"] * 2


def test_key_set_outlives_an_outage(
    issuer: Issuer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """[A2] For a day; then it is 503, until the issuer is back."""
    known = issuer.token()
    read(known)
    issuer.close()

    clock.ahead = 23 * HOUR
    assert read(known).subject == "ada"
    settle()
    assert read(issuer.token(sub="bob")).subject == "bob"
    assert [line.reason for line in caplog.records if line.levelno == logging.ERROR] == [  # type: ignore[attr-defined]
        f"{issuer.url}: Connection refused"
    ]

    clock.ahead = 24 * HOUR + 1
    for token in (known, issuer.token(sub="eve")):
        with pytest.raises(IssuerUnavailable):
            read(token)
    settle()

    issuer.start()
    clock.ahead += 11
    with pytest.raises(IssuerUnavailable):  # nobody waits for an issuer that was away
        read(known)
    settle()
    assert read(known).subject == "ada"


def test_without_any_key_it_is_503(issuer: Issuer, clock: Clock) -> None:
    """[A2] And not 401, with which clients would sign their people out."""
    issuer.close()

    with pytest.raises(IssuerUnavailable) as unavailable:
        read(issuer.token())

    assert (unavailable.value.status_code, unavailable.value.wait) == (503, 10)


def test_failure_is_followed_by_a_rest(
    issuer: Issuer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """[A2] 10 seconds, with forced fetches as well; one line of the log for each try."""
    issuer.mode = "status"

    def tries() -> int:
        for number in range(50):
            token = issuer.token(header={"kid": f"key-{number}"})
            with pytest.raises(IssuerUnavailable):
                read(token)
            settle()
        return len(issuer.requests)

    assert tries() == 1
    clock.ahead = 9
    assert tries() == 1
    clock.ahead = 11
    assert tries() == 2
    assert len([line for line in caplog.records if line.levelno == logging.ERROR]) == 2


def test_unknown_kid_in_an_outage_is_503(issuer: Issuer, clock: Clock) -> None:
    """[A2] Whether the key is new can't be told, while the known ones are good."""
    read(issuer.token())
    issuer.mode = "status"

    for number in range(1, 4):
        with pytest.raises(IssuerUnavailable):
            read(issuer.token(header={"kid": f"key-{number}"}))
    assert read(issuer.token(sub="bob")).subject == "bob"
    assert len(issuer.requests) == 2

    issuer.mode = "good"
    clock.ahead = 31
    with pytest.raises(IssuerUnavailable):
        read(issuer.token(header={"kid": "key-9"}))
    settle()
    clock.ahead = 62
    with pytest.raises(TokenInvalid):
        read(issuer.token(header={"kid": "key-9"}))


FAULTS = {
    "huge": "more than 65536 bytes",
    "broken": "not JSON",
    "deep": "not JSON",
    "html": "not JSON",
    "redirecting": "status 302, a redirect, and none is followed: name where it leads",
    "empty": "no key in it can be used",
    "many": "more than 64 keys",
    "status": "status 500",
}
HANGING = ["slow", "dripping", "dripping head"]


def fails_at_first(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> str:
    """503, and nothing else is asked; why, as the log has it."""
    with pytest.raises(IssuerUnavailable):
        read(issuer.token())

    settle()
    assert issuer.requests == ["/jwks"]
    (line,) = [line for line in caplog.records if line.levelno == logging.ERROR]
    url, _, why = line.reason.partition(": ")  # type: ignore[attr-defined]
    assert url == issuer.url
    return str(why)


def fails_later(issuer: Issuer, clock: Clock, mode: str) -> None:
    """And the keys that were known go on being known."""
    token = issuer.token()
    read(token)
    clock.ahead = 601
    issuer.mode = mode

    assert read(token).subject == "ada"
    settle()
    assert len(issuer.requests) == 2
    assert read(issuer.token(sub="bob")).subject == "bob"


@pytest.mark.parametrize("mode", FAULTS)
def test_fault_at_first(mode: str, issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """[A2] 503."""
    issuer.mode = mode

    assert fails_at_first(issuer, caplog) == FAULTS[mode]


@pytest.mark.parametrize("mode", HANGING)
@pytest.mark.usefixtures("impatient")
def test_hanging_at_first(mode: str, issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """[A2] However slowly it drips, the time is over for all of it."""
    issuer.mode = mode

    assert fails_at_first(issuer, caplog) == "no whole answer within 0.25 seconds"


@pytest.mark.parametrize("mode", FAULTS)
def test_fault_later(mode: str, issuer: Issuer, clock: Clock) -> None:
    """[A2] What can't be read never replaces what could."""
    fails_later(issuer, clock, mode)


@pytest.mark.parametrize("mode", HANGING)
def test_hanging_later(mode: str, issuer: Issuer, clock: Clock, settings: Any) -> None:
    """[A2]"""
    settings.ISSUER_TIME_LIMIT_SECONDS = 1
    read(issuer.token())
    clock.runs = True

    fails_later(issuer, clock, mode)


@pytest.mark.usefixtures("impatient")
def test_nobody_waits_again_for_an_issuer_that_hangs(
    issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[A2] Threads are few, and people who signed in here need them."""
    issuer.mode = "slow"
    with pytest.raises(IssuerUnavailable):
        read(issuer.token())
    settle()
    clock.ahead = 11
    monkeypatch.setattr(threading.Event, "wait", _must_not_wait)

    with pytest.raises(IssuerUnavailable):
        read(issuer.token())


def test_each_read_may_take_what_is_left(clock: Clock) -> None:
    """[A2] Of the whole time, and not as long as the first."""
    timeouts = []

    class Dripping:
        def settimeout(self, seconds: float) -> None:
            timeouts.append(round(seconds, 3))

        def recv_into(self, buffer: Any) -> int:
            clock.ahead += 1
            return 1

    stream = fetching._Stream(cast("socket.socket", Dripping()), clock() + 3)

    with pytest.raises(TimeoutError):
        stream.read()
    assert timeouts == [3, 2, 1]


def test_only_one_waits_to_the_end(issuer: Issuer, settings: Any) -> None:
    """[A2] For an issuer that hangs: the others leave their threads to whoever needs no key."""
    settings.ISSUER_TIME_LIMIT_SECONDS = 30
    settings.ISSUER_PATIENCE_SECONDS = 0.05
    issuer.mode = "slow"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(read, issuer.token())
        while not issuer.requests:
            time.sleep(0.001)

        for _ in range(3):
            with pytest.raises(IssuerUnavailable):
                read(issuer.token(sub="bob"))
        assert not first.done()
        issuer.go_on.set()

        assert first.result().subject == "ada"
    assert issuer.requests == ["/jwks"]


def _must_not_wait(self: threading.Event, timeout: float | None = None) -> bool:
    # A thread that begins is waited for until it runs.
    if timeout is not None:
        raise AssertionError("waited for the issuer")
    with self._cond:  # type: ignore[attr-defined]
        while not self.is_set():
            self._cond.wait()  # type: ignore[attr-defined]
    return True


def test_address_that_is_looked_up_for_long(
    issuer: Issuer, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[A2] No time limit reaches the resolver; requests wait no longer all the same."""
    go_on = threading.Event()

    def hang(*args: Any, **kwargs: Any) -> Any:
        go_on.wait(30)
        raise OSError("no such host")

    monkeypatch.setattr("socket.getaddrinfo", hang)
    for _ in range(3):
        with pytest.raises(IssuerUnavailable):
            read(issuer.token())

    fetches = [thread for thread in threading.enumerate() if thread.name == "issuer-keys"]
    assert len(fetches) == 1
    assert fetches[0].daemon
    go_on.set()


def test_proxies_of_the_environment_are_not_asked(
    issuer: Issuer, other_issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[A2] Who is asked for keys stands in the settings alone."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, other_issuer.name)

    assert read(issuer.token()).subject == "ada"
    assert other_issuer.requests == []


def test_plain_http_is_no_tls(issuer: Issuer) -> None:
    """[A2]"""
    url = issuer.url.replace("http:", "https:")

    with pytest.raises(FetchError, match="no TLS can be spoken with it"):
        fetch_key_set(issuer.name, url, deadline=time.monotonic() + 3)


@pytest.fixture
def tls_issuer(issuer: Issuer, tmp_path: Path) -> Issuer:
    """It speaks TLS, with a certificate for localhost that nobody else signed."""
    key, name = private_key("ES256"), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    assert issuer._server is not None
    issuer._server.socket = context.wrap_socket(issuer._server.socket, server_side=True)
    return issuer


@pytest.mark.parametrize(
    ("host", "is_known", "fault"),
    [
        ("localhost", True, None),
        ("localhost", False, "its certificate can't be verified: self-signed certificate"),
        ("127.0.0.1", True, "its certificate can't be verified: IP address mismatch"),
    ],
)
def test_certificate_is_verified(
    host: str,
    is_known: bool,
    fault: str | None,
    tls_issuer: Issuer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """[A2] Who signed it, and whether it is for the host."""
    if is_known:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    url = tls_issuer.url.replace("http://127.0.0.1", f"https://{host}")
    deadline = time.monotonic() + 10

    if fault is None:
        assert len(fetch_key_set(tls_issuer.name, url, deadline=deadline).keys) == 1
    else:
        with pytest.raises(FetchError, match=fault):
            fetch_key_set(tls_issuer.name, url, deadline=deadline)


@pytest.mark.usefixtures("debug")
def test_keys_are_discovered(issuer: Issuer, settings: Any) -> None:
    """[A2] By the issuer's own document, each time anew: the keys may move."""
    settings.AUTH_JWKS_URL = ""

    assert read(issuer.token()).subject == "ada"
    assert issuer.requests == ["/.well-known/openid-configuration", "/jwks"]


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        (None, "its `issuer` is not AUTH_ISSUER to the letter"),
        ([], "its `issuer` is not AUTH_ISSUER to the letter"),
        ({"jwks_uri": "{url}"}, "its `issuer` is not AUTH_ISSUER to the letter"),
        ({"issuer": "{name}/", "jwks_uri": "{url}"}, "its `issuer` is not AUTH_ISSUER"),
        ({"issuer": "{name}"}, "its `jwks_uri` is no https:// URL"),
        ({"issuer": "{name}", "jwks_uri": 1}, "its `jwks_uri` is no https:// URL"),
        ({"issuer": "{name}", "jwks_uri": "file:///etc/passwd"}, "its `jwks_uri` is no https:// "),
        ({"issuer": "{name}", "jwks_uri": "http://a.example/jwks"}, "its `jwks_uri` is no https:"),
        ({"issuer": "{name}", "jwks_uri": "/jwks"}, "its `jwks_uri` is no https:// URL"),
    ],
)
def test_discovery_is_of_the_issuer(document: Any, fault: str, issuer: Issuer) -> None:
    """[A2] OpenID Connect Discovery 1.0, section 4.3."""
    if isinstance(document, dict):
        document = {
            name: value.format(name=issuer.name, url=issuer.url) if type(value) is str else value
            for name, value in document.items()
        }
    issuer.documents["/.well-known/openid-configuration"] = document

    with pytest.raises(FetchError, match=fault):
        discover(issuer.name, deadline=time.monotonic() + 3)


@pytest.mark.usefixtures("debug")
def test_discovery_doubles_no_slash(issuer: Issuer) -> None:
    """[A2] Auth0's issuer ends with one, which is its own."""
    name = f"{issuer.name}/"
    issuer.documents["/.well-known/openid-configuration"]["issuer"] = name

    assert discover(name, deadline=time.monotonic() + 3) == issuer.url


def test_failed_discovery_names_the_setting(issuer: Issuer) -> None:
    """[A2] Better Auth's and Neon Auth's is a 404."""
    issuer.mode = "status"

    with pytest.raises(FetchError, match="Neon Auth have no discovery document: set AUTH_JWKS_URL"):
        discover(issuer.name, deadline=time.monotonic() + 3)


@pytest.mark.usefixtures("impatient")
def test_discovery_and_keys_share_the_time(issuer: Issuer, settings: Any) -> None:
    """[A2] 3 seconds in all."""
    settings.AUTH_JWKS_URL = ""
    issuer.mode = "slow"
    with pytest.raises(IssuerUnavailable):
        read(issuer.token())
    settle()

    assert issuer.requests == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize(
    "document", [[], {}, {"keys": {}}, {"keys": None}, "keys", None, {"keys": [1, None, "key"]}]
)
def test_what_is_no_key_set(document: Any, issuer: Issuer) -> None:
    """[A2]"""
    issuer.documents["/jwks"] = document

    with pytest.raises(FetchError):
        fetch_key_set(issuer.name, issuer.url, deadline=time.monotonic() + 3)


def test_sixty_four_keys_are_read(issuer: Issuer) -> None:
    """[A2] Those that can't be used count as well."""
    issuer.keys = [{"kty": "oct"}] * 63 + issuer.keys

    assert read(issuer.token()).subject == "ada"


ED25519 = public_jwk("EdDSA", private_key("EdDSA"), kid="key")
P256 = public_jwk("ES256", private_key("ES256"), kid="key")
RSA = public_jwk("RS256", private_key("RS256"), kid="key")


@pytest.mark.parametrize(
    ("jwk", "algorithms"),
    [
        (ED25519, ("EdDSA",)),
        ({**ED25519, "alg": "EdDSA"}, ("EdDSA",)),
        ({**ED25519, "alg": "Ed25519"}, ("EdDSA",)),
        ({**ED25519, "alg": None, "use": None, "kid": None}, ("EdDSA",)),
        ({**ED25519, "use": "sig", "key_ops": ["verify"]}, ("EdDSA",)),
        ({**ED25519, "x5c": ["MIIB"], "x5t": 1, "nbf": "1", "more": {}}, ("EdDSA",)),
        (P256, ("ES256",)),
        (public_jwk("ES384", private_key("ES384")), ("ES384",)),
        (RSA, ("RS256", "PS256")),
        ({**RSA, "alg": "PS256"}, ("PS256",)),
        ({**RSA, "crv": "P-256"}, ("RS256", "PS256")),
    ],
)
def test_key_that_can_be_used(jwk: dict[str, Any], algorithms: tuple[str, ...]) -> None:
    """[A2] What it may verify is said by its type, and by its `alg` where it has one."""
    key = read_key(jwk)

    assert (key.algorithms, key.kid) == (algorithms, jwk.get("kid"))
    assert not key.is_betrayed


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "ES384", "RS256", "PS256"])
def test_only_the_public_half_is_read(algorithm: str) -> None:
    """[A2]"""
    private = private_jwk(algorithm, private_key(algorithm))
    private.pop("key_ops", None)  # PyJWT's says that it signs

    key = read_key(private)

    assert key.is_betrayed
    assert not hasattr(key.verifier, "private_numbers")
    assert not hasattr(key.verifier, "private_bytes")


@pytest.mark.parametrize(
    ("jwk", "fault"),
    [
        (1, "no object"),
        ({}, "a type that isn't used here"),
        ({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}, "a type that isn't used here: kty 'oct'"),
        ({"kty": ["RSA"]}, "a type that isn't used here"),
        ({"kty": "EC", "crv": {}}, "a type that isn't used here"),
        ({**ED25519, "crv": "X25519"}, "crv 'X25519'"),
        ({**ED25519, "kty": "EC"}, "crv 'Ed25519'"),
        (OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate(), as_dict=True), "crv 'Ed448'"),
        (
            public_jwk("ES256", ec.generate_private_key(ec.SECP521R1())),
            "crv 'P-521'",
        ),
        (public_jwk("ES256", ec.generate_private_key(ec.SECP256K1())), "crv 'secp256k1'"),
        (
            public_jwk("RS256", rsa.generate_private_key(65537, 1024)),
            "RSA of 1024 bits, where 2048 are the least",
        ),
        ({**ED25519, "kid": 1}, "its kid is no text"),
        ({**RSA, "use": "enc"}, "not for signatures: use 'enc'"),
        ({**RSA, "use": ["sig"]}, "not for signatures"),
        ({**RSA, "key_ops": ["sign"]}, "not for verifying: key_ops"),
        ({**RSA, "key_ops": "verify"}, "not for verifying: key_ops"),
        ({**RSA, "alg": "RSA-OAEP"}, "alg 'RSA-OAEP', where its type has RS256 or PS256"),
        ({**RSA, "alg": "RS512"}, "alg 'RS512'"),
        ({**RSA, "alg": "ES256"}, "alg 'ES256'"),
        ({**RSA, "alg": "HS256"}, "alg 'HS256'"),
        ({**RSA, "alg": ["RS256"]}, "alg ['RS256']"),
        ({**P256, "alg": "ES384"}, "alg 'ES384', where its type has ES256"),
        ({**ED25519, "x": None}, "its numbers are no key"),
        ({**ED25519, "x": 7}, "its numbers are no key"),
        ({**ED25519, "x": "AAAA"}, "its numbers are no key"),
        ({**ED25519, "x": "!"}, "its numbers are no key"),
        ({**P256, "y": P256["x"]}, "its numbers are no key"),
        ({**P256, "crv": "P-384"}, "its numbers are no key"),
        ({**RSA, "e": "AQ"}, "its numbers are no key"),
        ({**RSA, "n": ""}, "its numbers are no key"),
        ({"kty": "RSA"}, "its numbers are no key"),
    ],
)
def test_key_that_can_not_be_used(jwk: Any, fault: str) -> None:
    """[A2] Secrets, keys for encryption, weak and odd ones; each says why."""
    with pytest.raises(UnusableKeyError) as unusable:
        read_key(jwk)

    assert fault in str(unusable.value)


def test_weak_key_verifies_nothing(issuer: Issuer) -> None:
    """[A1] RSA of 1,024 bits."""
    weak = rsa.generate_private_key(65537, 1024)
    issuer.algorithm = "RS256"
    issuer.keys = [public_jwk("RS256", weak, kid=issuer.kid), ED25519]

    with pytest.raises(TokenInvalid):
        read(issuer.token(key=weak))


def test_no_thread_to_be_had_is_a_failure(
    issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """[A2] As one of the issuer's: 503, and nobody notices whose key is known."""

    def no_more(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    token = issuer.token()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more)
        for _ in range(2):
            with pytest.raises(IssuerUnavailable):
                read(token)
    assert [line.reason for line in caplog.records if line.levelno == logging.ERROR] == [  # type: ignore[attr-defined]
        "can't start new thread"
    ]

    clock.ahead = 11
    with pytest.raises(IssuerUnavailable):  # nobody waits after a failure
        read(token)
    settle()
    read(token)
    clock.ahead = 612
    monkeypatch.setattr(threading.Thread, "start", no_more)
    for number in range(3):
        assert read(issuer.token(sub=f"person-{number}")).subject == f"person-{number}"
    assert issuer.requests == ["/jwks"]


def test_defect_in_a_fetch_is_a_failure(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """[A2] Nobody waits for ever for a thread that died."""
    died: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: died.append(str(hook.exc_value)))

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a defect")

    monkeypatch.setattr(jwks, "fetch_key_set", broken)
    source: Callable[[], Any] = IssuerKeys(issuer.name, issuer.url).current
    for _ in range(2):
        with pytest.raises(IssuerUnavailable):
            source()

    assert died == ["a defect"]


def test_key_that_was_asked_for_in_vain_is_not_there(issuer: Issuer) -> None:
    """[A2] Who comes with it again is told the same; of other names it isn't known."""
    token = issuer.token(header={"kid": "invented"})

    for _ in range(3):
        with pytest.raises(TokenInvalid):
            read(token)
    with pytest.raises(IssuerUnavailable):
        read(issuer.token(header={"kid": "another"}))
    with pytest.raises(TokenInvalid):
        read(token)
    assert len(issuer.requests) <= 2


def test_key_that_was_taken_away_is_not_there(issuer: Issuer) -> None:
    """[A2] It was in the set before this one: nobody has to be asked."""
    old = issuer.token(sub="old")
    read(old)
    issuer.rotate()
    read(issuer.token(sub="new"))

    for token in (old, issuer.token(sub="another", header={"kid": "key-0"})):
        with pytest.raises(TokenInvalid):
            read(token)
    assert issuer.requests == ["/jwks"] * 2
