"""The keys of the identity provider: which of them verify what, and how long they are known.

PyJWT's PyJWKClient isn't used. It holds its lock while it fetches, asks an issuer that is away
again for each request, forgets all keys when their time is over, and bounds neither size nor time.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from threading import Event, Lock, Thread, get_ident
from time import monotonic
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from django.conf import settings
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from todo_project import metrics
from todo_project.api.errors import IssuerUnavailable
from todo_project.environment import is_fetchable

from .fetching import FetchError, fetch_json

logger = logging.getLogger(__name__)

# RFC 9864 calls EdDSA with this curve by the curve's name; PyJWT doesn't know it yet.
SAME_ALGORITHMS = {"Ed25519": "EdDSA"}
# What a type of key (and its curve) may verify. RFC 8725, section 3.1: a key has one algorithm; an
# RSA key that doesn't say which has two.
_FAMILIES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("OKP", "Ed25519"): ("EdDSA",),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("RSA", ""): ("RS256", "PS256"),
}
_PUBLIC_MEMBERS = {"OKP": ("crv", "x"), "EC": ("crv", "x", "y"), "RSA": ("n", "e")}
RSA_MIN_BITS = 2048  # RFC 7518, section 3.3
_NOT_FETCHED = "the issuer's keys could not be fetched"


class UnusableKeyError(Exception):
    """A key of a set that verifies nothing here; says why."""


@dataclass(frozen=True, slots=True)
class Key:
    kid: str | None
    algorithms: tuple[str, ...]  # that it may verify
    verifier: Any  # what PyJWT takes as a key
    is_betrayed: bool = False  # its private half was published, too


def read_key(jwk: object) -> Key:
    """A key of a set (RFC 7517, section 4), of which only the public half is looked at.

    Raises UnusableKeyError.
    """
    if not isinstance(jwk, dict):
        raise UnusableKeyError("no object")
    kty: Any = jwk.get("kty")
    kid, use, operations = jwk.get("kid"), jwk.get("use"), jwk.get("key_ops")
    curve: Any = "" if kty == "RSA" else jwk.get("crv")
    family = _FAMILIES.get((kty, curve), ()) if _are_texts(kty, curve) else ()
    if not family:
        raise UnusableKeyError(f"a type that isn't used here: kty {kty!r}, crv {jwk.get('crv')!r}")
    if kid is not None and not isinstance(kid, str):
        raise UnusableKeyError("its kid is no text")
    if use not in (None, "sig"):
        raise UnusableKeyError(f"not for signatures: use {use!r}")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        raise UnusableKeyError("not for verifying: key_ops")
    algorithm = jwk.get("alg")
    if algorithm is not None:
        algorithm = SAME_ALGORITHMS.get(algorithm, algorithm) if _are_texts(algorithm) else ""
        if algorithm not in family:
            raise UnusableKeyError(f"alg {jwk['alg']!r}, where its type has {' or '.join(family)}")
        family = (algorithm,)
    public = {"kty": kty, **{name: jwk.get(name) for name in _PUBLIC_MEMBERS[kty]}}
    try:
        verifier = PyJWK(public, algorithm=family[0]).key
    except PyJWTError as error:
        raise UnusableKeyError("its numbers are no key") from error
    if isinstance(verifier, RSAPublicKey) and verifier.key_size < RSA_MIN_BITS:
        raise UnusableKeyError(
            f"RSA of {verifier.key_size} bits, where {RSA_MIN_BITS} are the least"
        )
    return Key(kid, family, verifier, is_betrayed="d" in jwk)


def _are_texts(*values: object) -> bool:
    return all(isinstance(value, str) for value in values)


@dataclass(frozen=True, slots=True, eq=False)
class KeySet:
    """Keys that were fetched together. One object as long as they stay the same."""

    keys: tuple[Key, ...]

    def fitting(self, algorithm: str, kid: str | None) -> list[Key]:
        """The keys that may have made a token; without a `kid`, all of the family.

        Whatever a token calls it, a key without a name is meant where it is the only one of its
        family: RFC 7517, section 4.5.
        """
        family = [key for key in self.keys if algorithm in key.algorithms]
        if len(family) == 1 and family[0].kid is None:
            return family
        return [key for key in family if kid is None or key.kid == kid]


class KeySource(Protocol):
    def current(self) -> KeySet:
        """The set that is good at the moment. Raises IssuerUnavailable."""

    def asked_for(self, algorithm: str, kid: str | None) -> KeySet:
        """The set that is good at the moment, to find a key in.

        Where it has none that fits, it was fetched since the call. Raises IssuerUnavailable.
        """


@dataclass(frozen=True)
class FixedKeys:
    """A KeySource: keys that don't change, such as the secret that issuer and service share."""

    keys: KeySet

    def current(self) -> KeySet:
        return self.keys

    def asked_for(self, algorithm: str, kid: str | None) -> KeySet:
        return self.keys


def fetch_key_set(issuer: str, url: str, *, deadline: float) -> KeySet:
    """Raises FetchError, also for a set of which nothing can be used."""
    url = url or discover(issuer, deadline=deadline)
    keys = []
    for jwk in fetch_jwks(url, deadline=deadline):
        try:
            key = read_key(jwk)
        except UnusableKeyError:
            continue  # sets have keys for encryption, and others; check_issuer names them
        if key.is_betrayed:
            logger.warning("the issuer publishes a private key", extra={"kid": key.kid})
        keys.append(key)
    if not keys:
        raise FetchError(f"{url}: no key in it can be used")
    return KeySet(tuple(keys))


def fetch_jwks(url: str, *, deadline: float) -> list[Any]:
    """The members of the set at `url`, as they are. Raises FetchError."""
    document = fetch_json(url, deadline=deadline)
    jwks = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(jwks, list):
        raise FetchError(f"{url}: no key set, which is an object with a list of `keys`")
    if len(jwks) > settings.ISSUER_KEYS_MAX:
        raise FetchError(f"{url}: more than {settings.ISSUER_KEYS_MAX} keys")
    return jwks


def discover(issuer: str, *, deadline: float) -> str:
    """Where the issuer says that its keys are: OpenID Connect Discovery 1.0, section 4.

    Raises FetchError.
    """
    url = f"{issuer.removesuffix('/')}/.well-known/openid-configuration"
    try:
        document = fetch_json(url, deadline=deadline)
    except FetchError as fault:
        raise FetchError(
            f"{fault}. Better Auth and Neon Auth have no discovery document: set AUTH_JWKS_URL"
        ) from fault
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise FetchError(f"{url}: its `issuer` is not AUTH_ISSUER to the letter")
    keys_url = document.get("jwks_uri")
    if not isinstance(keys_url, str) or not is_fetchable(keys_url, debug=settings.DEBUG):
        raise FetchError(f"{url}: its `jwks_uri` is no https:// URL")
    return keys_url


@dataclass(frozen=True, slots=True)
class _Held:
    keys: KeySet
    fresh_until: float
    old_from: float  # so long after that nobody came who would have renewed it
    good_until: float


@dataclass(frozen=True, slots=True)
class _Fetch:
    began_by: int  # a thread
    deadline: float
    patience_until: float  # of whoever came later
    is_over: Event


class IssuerKeys:
    """A KeySource: fetched at the first need, kept for settings.ISSUER_KEYS_GOOD.

    Each fetch has a thread of its own, because looking up a host's address has no time limit, and
    so that a set is renewed behind the back of requests. There is one at a time. The lock is held
    for moments and never while the network is waited for.
    """

    def __init__(self, issuer: str, url: str) -> None:
        self._issuer, self._url = issuer, url
        self._lock = Lock()
        self._held: _Held | None = None
        self._fetch: _Fetch | None = None
        self._is_failing = False
        # What the present set was fetched for, and hasn't: who asks again gets the same answer.
        self._missed: tuple[str, str | None, int] | None = None
        self._withdrawn: frozenset[str | None] = frozenset()  # of the set before this one
        self._rests_until = self._forced_until = monotonic()

    def current(self) -> KeySet:
        held, now = self._held, monotonic()
        if held is None or now >= held.good_until:
            return self._awaited(self._begin())
        if now >= held.fresh_until and now >= self._rests_until:
            fetch = self._fetch or self._begin()
            if fetch is not None and now >= held.old_from and not self._is_failing:
                # A key may have been taken away long ago. But not for long: see _awaited.
                fetch.is_over.wait(max(fetch.patience_until - monotonic(), 0))
                held = self._held or held
        return held.keys

    def asked_for(self, algorithm: str, kid: str | None) -> KeySet:
        before = self._held
        keys = self.current()
        if keys.fitting(algorithm, kid):
            return keys
        fetch = self._begin(is_forced=True) if self._held is before else None
        if fetch is None and (self._missed == (algorithm, kid, id(keys)) or kid in self._withdrawn):
            return keys
        if fetch is None and self._held is before and not self._is_failing:
            # The key may be new. Not a 401: else whoever invents names, and so uses up what may be
            # asked, would sign people out after a rotation.
            metrics.REFUSALS.add("issuer")
            raise IssuerUnavailable(wait=max(ceil(self._forced_until - monotonic()), 1))
        keys = self._awaited(fetch)
        self._missed = (algorithm, kid, id(keys))
        return keys

    def _begin(self, *, is_forced: bool = False) -> _Fetch | None:
        """The fetch that runs, or a new one; None where none is allowed.

        Forced ones have a limit of their own, which counts no others: else the first person with a
        new key would be refused whenever the set had just been renewed.
        """
        with self._lock:
            now = monotonic()
            if self._fetch is not None:
                return self._fetch
            if now < self._rests_until or (is_forced and now < self._forced_until):
                return None
            if is_forced:
                self._forced_until = now + settings.ISSUER_FORCED_INTERVAL_SECONDS
            fetch = _Fetch(
                began_by=get_ident(),
                deadline=now + settings.ISSUER_TIME_LIMIT_SECONDS,
                patience_until=now + settings.ISSUER_PATIENCE_SECONDS,
                is_over=Event(),
            )
            thread = Thread(target=self._run, args=[fetch], name="issuer-keys", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # there are as many as the machine can have
                logger.error(_NOT_FETCHED, extra={"reason": str(error)})  # noqa: TRY400  # it says all
                self._note(None)
                return None
            self._fetch = fetch
            return fetch

    def _awaited(self, fetch: _Fetch | None) -> KeySet:
        """The set after a fetch. Raises IssuerUnavailable where there is none, or it failed.

        Threads are few, and other people need them. So one waits to the end, the others not for
        long; and after a failure nobody does until a fetch went well.
        """
        if fetch is not None and not self._is_failing:
            is_mine = fetch.began_by == get_ident()
            until = fetch.deadline if is_mine else fetch.patience_until
            fetch.is_over.wait(max(until - monotonic(), 0))
        held = self._held
        is_unknown = self._is_failing or (fetch is not None and not fetch.is_over.is_set())
        if held is None or is_unknown or monotonic() >= held.good_until:
            metrics.REFUSALS.add("issuer")
            raise IssuerUnavailable()
        return held.keys

    def _run(self, fetch: _Fetch) -> None:
        keys: KeySet | None = None
        try:
            keys = fetch_key_set(self._issuer, self._url, deadline=fetch.deadline)
        except FetchError as fault:
            logger.error(_NOT_FETCHED, extra={"reason": str(fault)})  # noqa: TRY400  # it says all
        finally:
            with self._lock:
                self._fetch = None
                self._note(keys)
            fetch.is_over.set()

    def _note(self, keys: KeySet | None) -> None:
        now = monotonic()
        self._is_failing = keys is None
        if keys is None:
            self._rests_until = now + settings.ISSUER_REST_SECONDS
            return
        if self._held is not None and self._held.keys.keys == keys.keys:
            keys = self._held.keys  # the tokens that it verified stay known
        else:
            kids = [key.kid for key in keys.keys]
            before = self._held.keys.keys if self._held is not None else ()
            self._withdrawn = frozenset(key.kid for key in before) - frozenset(kids)
            logger.info("the issuer's keys are new", extra={"kids": kids})
        fresh = settings.ISSUER_KEYS_FRESH.total_seconds()
        self._held = _Held(
            keys,
            fresh_until=now + fresh,
            old_from=now + 2 * fresh,
            good_until=now + settings.ISSUER_KEYS_GOOD.total_seconds(),
        )
