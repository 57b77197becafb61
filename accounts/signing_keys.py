"""The keys of the service's own tokens: one signs, and those before it still verify.

A token names its key in its header, `kid`: RFC 7515, section 4.1.4.
"""

import base64
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import Any

import jwt
from django.conf import settings
from jwt.exceptions import InvalidSignatureError, InvalidTokenError
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import Token

_KEY_ID_BYTES = 12  # 16 characters; nobody else's keys are told apart by it


def signing_keys() -> "SigningKeys":
    """The keys of this process."""
    return _signing_keys((settings.JWT_SIGNING_KEY, *settings.JWT_PREVIOUS_SIGNING_KEYS))


class SigningKeys(TokenBackend):
    """Of some keys the first one signs. simplejwt's own backend has one key, without a name."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(
            api_settings.ALGORITHM,
            audience=api_settings.AUDIENCE,
            issuer=api_settings.ISSUER,
            leeway=api_settings.LEEWAY,
        )
        self._jws = jwt.PyJWS(algorithms=[self.algorithm])
        self._keys = {key_id(key): self._prepare_key(key) for key in keys}

    @property
    def ids(self) -> Sequence[str]:
        """The names of the keys, that of the present one first."""
        return list(self._keys)

    def encode(self, payload: dict[str, Any], kid: str | None = None) -> str:
        """A token of these claims, signed by the present key or the one that is named."""
        kid = kid or self.ids[0]
        claims = {**payload, "aud": self.audience, "iss": self.issuer}
        return jwt.encode(claims, self._keys[kid], self.algorithm, headers={"kid": kid})

    def get_verifying_key(self, token: Token) -> Any:
        """The key that a token names; raises InvalidTokenError where it is none of these.

        Tokens of an earlier release name none: theirs is the one that verifies them.
        """
        text: Any = token  # simplejwt says Token, and means what a client sent
        header = jwt.get_unverified_header(text)
        if "kid" not in header:
            return self._key_that_verifies(text)
        if header["kid"] not in self._keys:
            raise InvalidTokenError("Unknown key")
        return self._keys[header["kid"]]

    def _key_that_verifies(self, text: str | bytes) -> Any:
        for key in self._keys.values():
            try:
                self._jws.decode(text, key, algorithms=[self.algorithm])
            except InvalidSignatureError:
                continue
            return key
        raise InvalidSignatureError("Signature verification failed")


def key_id(key: str) -> str:
    """The name of a key. Of a random one, which no other has, nothing can be learned by it."""
    digest = sha256(f"todo-api signing key\n{key}".encode()).digest()
    return base64.urlsafe_b64encode(digest[:_KEY_ID_BYTES]).decode()


_signing_keys = cache(SigningKeys)
