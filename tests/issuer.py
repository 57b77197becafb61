"""An identity provider on loopback: signs whatever a test wants, and serves its keys, or fails to.

`issuer` is the fixture of most tests: the service accepts its tokens.
"""

import base64
import json
import time
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from django.core.signals import setting_changed
from django.dispatch import receiver
from jwt.algorithms import Algorithm, get_default_algorithms

from accounts import issuers
from tests.client import remember_secrets

AUDIENCE = "https://todo.example.com"
SHARED_SECRET = "s3cret shared by the issuer and the service"
ALGORITHMS = ("EdDSA", "ES256", "ES384", "RS256", "PS256")
_MEMBERS = {"OKP": ("kty", "crv", "x"), "EC": ("kty", "crv", "x", "y"), "RSA": ("kty", "n", "e")}


@receiver(setting_changed)
def forget_issuer(setting: str, **kwargs: Any) -> None:
    """As a new process: what was made or verified under other settings is gone."""
    if setting.startswith(("AUTH_", "ISSUER_", "OUTSIDE_", "ACCESS_TOKENS_")):
        issuers._sources.clear()
        issuers._verified.clear()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def make_private_key(algorithm: str, *, bits: int = 2048) -> Any:
    match algorithm:
        case "EdDSA" | "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ES384":
            return ec.generate_private_key(ec.SECP384R1())
        case _:
            return rsa.generate_private_key(65537, bits)


@cache
def private_key(algorithm: str, number: int = 0, *, bits: int = 2048) -> Any:
    """One of a few, made once: RSA takes a tenth of a second."""
    return make_private_key(algorithm, bits=bits)


def algorithm_object(algorithm: str) -> Algorithm:
    return get_default_algorithms()["EdDSA" if algorithm == "Ed25519" else algorithm]


def private_jwk(algorithm: str, key: Any) -> dict[str, Any]:
    jwk: dict[str, Any] = algorithm_object(algorithm).to_jwk(key, as_dict=True)
    return jwk


def public_jwk(algorithm: str, key: Any, **members: Any) -> dict[str, Any]:
    """With more members, such as `kid` and `alg`; those that are None are left out."""
    jwk = private_jwk(algorithm, key)
    jwk = {name: jwk[name] for name in _MEMBERS[jwk["kty"]]}
    return {**jwk, **{name: value for name, value in members.items() if value is not None}}


def sign(header: Any, payload: Any, key: Any, *, algorithm: str | None = None) -> str:
    """Any header over any payload, each as bytes or to be made JSON; signed by `algorithm`.

    By that of the header where none is named; `none` signs nothing.
    """
    algorithm = algorithm or header["alg"]
    parts = [
        part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)
    ]
    text = ".".join(map(b64, parts))
    signature = b""
    if algorithm != "none":
        method = algorithm_object(algorithm)
        signature = method.sign(text.encode(), method.prepare_key(key))
    token = f"{text}.{b64(signature)}"
    remember_secrets({"token": token})
    return token


class Issuer:
    """A key set at `url`, a discovery document, and tokens.

    `mode` is how it serves: good, slow (until `go_on`), dripping, huge, broken, html, redirecting,
    empty, status (500). Its requests are counted in `requests`.
    """

    def __init__(self) -> None:
        self.mode = "good"
        self.documents: dict[str, Any] = {}
        self.requests: list[str] = []
        self.go_on = Event()
        self.algorithm = "EdDSA"
        self.kid = "key-0"
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.start()
        self.keys = [self.jwk()]

    # What it serves

    @property
    def name(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        return f"{self.name}/jwks"

    @property
    def keys(self) -> list[Any]:
        keys: list[Any] = self.documents["/jwks"]["keys"]
        return keys

    @keys.setter
    def keys(self, keys: list[Any]) -> None:
        self.documents["/jwks"] = {"keys": keys}
        self.documents["/.well-known/openid-configuration"] = {
            "issuer": self.name,
            "jwks_uri": self.url,
        }

    def start(self) -> None:
        """Also again, at the same address, after it was closed."""
        server = ThreadingHTTPServer(("127.0.0.1", self._port), _handler_of(self))
        server.daemon_threads = True
        self._port = server.server_address[1]
        self._server = server
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        """Nobody listens any more."""
        self.go_on.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    # What it signs

    def jwk(self, **members: Any) -> dict[str, Any]:
        """The present key, as it is published."""
        members = {"kid": self.kid, "alg": self.algorithm, **members}
        return public_jwk(self.algorithm, self.private_key, **members)

    @property
    def private_key(self) -> Any:
        return private_key(self.algorithm, int(self.kid.rpartition("-")[2]))

    def use(self, algorithm: str) -> None:
        """Signs by another algorithm from now on."""
        self.algorithm = algorithm
        self.keys = [self.jwk()]

    def rotate(self, *, keep_old: bool = False) -> None:
        """Signs by a new key from now on; publishes the old one no more."""
        old = self.keys if keep_old else []
        self.kid = f"key-{int(self.kid.rpartition('-')[2]) + 1}"
        self.keys = [self.jwk(), *old]

    def claims(self, **claims: Any) -> dict[str, Any]:
        """Of a good token, but for `claims`; those that are `...` are left out."""
        now = int(time.time())
        good = {"iss": self.name, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 900}
        merged = {**good, **claims}
        return {name: value for name, value in merged.items() if value is not ...}

    def token(self, sub: Any = "ada", *, header: Any = None, key: Any = None, **claims: Any) -> str:
        """A good token of a person, but for `header` (joins the usual one), `key` and `claims`.

        Claims that are `...` are left out.
        """
        joined = {"alg": self.algorithm, "kid": self.kid, **(header or {})}
        joined = {name: value for name, value in joined.items() if value is not ...}
        return sign(
            joined,
            self.claims(sub=sub, **claims),
            key or self.private_key,
            algorithm=self.algorithm,
        )


def _handler_of(issuer: Issuer) -> type[BaseHTTPRequestHandler]:
    lock = Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                issuer.requests.append(self.path)
            try:
                self.serve(issuer.mode)
            except OSError:
                self.close_connection = True  # whoever asked has had enough

        def serve(self, mode: str) -> None:
            body = json.dumps(issuer.documents.get(self.path)).encode()
            status, content_type = 200, "application/json"
            match mode:
                case "slow":
                    issuer.go_on.wait(30)
                case "dripping":
                    self.drip(body)
                    return
                case "dripping head":
                    self.drip(b"HTTP/1.0 200 OK\r\n", is_head=True)
                    return
                case "huge":
                    body = body[:-1] + b" " * 50_000_000 + body[-1:]
                case "broken":
                    body = body[:-2]
                case "deep":
                    body = b"[" * 60_000
                case "html":
                    body, content_type = b"<!doctype html><p>Sign in", "text/html"
                case "empty":
                    body = b'{"keys": []}'
                case "many":
                    body = json.dumps({"keys": issuer.keys * 65}).encode()
                case "status":
                    status = 500
                case "redirecting":
                    status = 302
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/other")
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def drip(self, text: bytes, *, is_head: bool = False) -> None:
            """A byte, and another: each in time, and all of them never."""
            if not is_head:
                self.send_response(200)
                self.end_headers()
            for byte in text * 1000:
                self.wfile.write(bytes([byte]))
                if issuer.go_on.wait(0.02):
                    return

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


@pytest.fixture
def other_issuer() -> Iterator[Issuer]:
    """One that the service doesn't know."""
    other = Issuer()
    yield other
    other.close()


@pytest.fixture
def issuer(settings: Any) -> Iterator[Issuer]:
    """One whose tokens the service accepts: for AUDIENCE, by any of ALGORITHMS."""
    issuer = Issuer()
    settings.AUTH_ISSUER = issuer.name
    settings.AUTH_JWKS_URL = issuer.url
    settings.AUTH_AUDIENCE = [AUDIENCE]
    settings.AUTH_REQUIRED_CLAIMS = {}
    settings.AUTH_ALGORITHMS = list(ALGORITHMS)
    yield issuer
    issuer.close()


@pytest.fixture
def shared_secret(issuer: Issuer, settings: Any) -> Callable[..., str]:
    """Makes tokens by the secret that the issuer and the service share, and no keys."""
    settings.AUTH_JWKS_URL = ""
    settings.AUTH_SHARED_SECRET = SHARED_SECRET
    settings.AUTH_ALGORITHMS = ["HS256"]

    def token(header: Any = None, **claims: Any) -> str:
        header = {"alg": "HS256", **(header or {})}
        return sign(header, issuer.claims(**claims), SHARED_SECRET.encode(), algorithm="HS256")

    return token
