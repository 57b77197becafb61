"""A real identity provider: Better Auth, in a process of its own, as an application runs it."""

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest

from tests.client import remember_secrets
from tests.processes import PATIENCE_S, PROJECT, free_port, wait_until

FOLDER = PROJECT / "tests" / "providers" / "better_auth"
PASSWORD = "correct horse battery staple"
# Where a server has its routes and, below them, its keys. `neon`: as Neon's pages describe its
# managed Better Auth.
FORMS = {
    "plain": ("/api/auth", "/jwks"),
    "neon": ("/neondb/auth", "/.well-known/jwks.json"),
}


@dataclass(frozen=True)
class Answer:
    status: int
    cookies: dict[str, str]
    session: str | None  # set-auth-token, of the bearer plugin
    data: Any


@dataclass(frozen=True)
class Person:
    """Someone who signed up there, and what their browser was given."""

    email: str
    subject: str
    session: str  # opaque; Better Auth's own routes take it as a bearer token
    cookies: dict[str, str]


class BetterAuth:
    """The server. What it knows outlives a stop, in a file of `folder`."""

    def __init__(self, folder: Path, form: str) -> None:
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self._path, jwks = FORMS[form]
        self.jwks_url = f"{self.issuer}{self._path}{jwks}"
        self._command = ["node", "server.mjs", str(self.port), str(folder / "state"), form]
        self._secret = secrets.token_urlsafe(48)
        self._log = folder / "log"
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=FOLDER,
                env={"PATH": os.environ["PATH"], "BETTER_AUTH_SECRET": self._secret},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._answers)

    def stop(self) -> None:
        """Afterwards its port refuses connections."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(PATIENCE_S) == 0, self._log.read_text()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()  # closes the pipe, too

    def sign_up(self, email: str, name: str) -> Person:
        body = {"email": email, "password": PASSWORD, "name": name}
        answer = self._auth("POST", "/sign-up/email", body)
        assert answer.session is not None
        for secret in (answer.session, *answer.cookies.values()):
            remember_secrets({"token": secret})
        return Person(email, answer.data["user"]["id"], answer.session, answer.cookies)

    def token(self, person: Person) -> str:
        """An access token as a front end gets it; those of one second are the same to the byte."""
        answer = self._auth("GET", "/token", authorization=f"Bearer {person.session}")
        return str(answer.data["token"])

    def mailed_token(self, person: Person) -> str:
        """Of the link by which `person` proves their address."""
        mails = self._ask("GET", "/mails").data
        (token,) = (mail["token"] for mail in mails if mail["to"] == person.email)
        return str(token)

    def verify_email(self, person: Person) -> None:
        self._auth("GET", f"/verify-email?token={self.mailed_token(person)}")

    def rotate(self, *, old: str) -> None:
        """Ends the signing of the keys so far. `old`: `keep` them published, or `drop` them."""
        assert self._ask("POST", f"/rotate?old={old}").status == 200

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with suppress(OSError):
            return self._ask("GET", "/mails").status == 200
        return False

    def _auth(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Of one of Better Auth's own routes, which has to succeed."""
        answer = self._ask(method, f"{self._path}{path}", body, **headers)
        assert answer.status == 200, (answer, self._log.read_text())
        return answer

    def _ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)) as connection:
            if body is not None:
                headers["content-type"] = "application/json"
            connection.request(method, path, body and json.dumps(body), headers)
            answer = connection.getresponse()
            content = answer.read()
        cookies: SimpleCookie = SimpleCookie()
        for line in answer.headers.get_all("set-cookie", []):
            cookies.load(line)
        return Answer(
            answer.status,
            {name: morsel.value for name, morsel in cookies.items()},
            answer.headers["set-auth-token"],
            json.loads(content or "null"),
        )


@pytest.fixture
def better_auth(
    request: pytest.FixtureRequest, tmp_path: Path, settings: Any
) -> Iterator[BetterAuth]:
    """The identity provider of the service, with no one in it; indirect parameter: its form."""
    form = getattr(request, "param", "plain")
    server = BetterAuth(tmp_path, form)
    # As docs/identity-providers.md has it.
    settings.AUTH_ISSUER = server.issuer
    settings.AUTH_JWKS_URL = server.jwks_url
    settings.AUTH_AUDIENCE = [server.issuer]
    settings.AUTH_ALGORITHMS = ["EdDSA"]
    settings.AUTH_REQUIRED_CLAIMS = {"banned": [False, None]} if form == "neon" else {}
    settings.ISSUER_TIME_LIMIT_SECONDS = PATIENCE_S  # Node starts slowly on a busy machine
    yield server
    server.end()
