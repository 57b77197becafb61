"""Who calls: the bearer token, trusted as it is."""

import os
from typing import Annotated
from uuid import UUID

import jwt
from fastapi import Depends, HTTPException, status
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

SIGNING_KEY = os.environ["JWT_SIGNING_KEY"]

bearer = HTTPBearer(auto_error=False)


async def read_token(
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> UUID:
    """The id of the user whose access token came with the request."""
    unauthorized = HTTPException(
        status.HTTP_401_UNAUTHORIZED, headers={"WWW-Authenticate": "Bearer"}
    )
    if credentials is None:
        raise unauthorized
    try:
        claims = jwt.decode(
            credentials.credentials,
            SIGNING_KEY,
            algorithms=["HS256"],
            issuer="todo-api",
            audience="todo-api",
            options={"require": ["exp", "sub", "token_type"]},
        )
        if claims["token_type"] != "access":
            raise unauthorized
        return UUID(claims["sub"])
    except (jwt.InvalidTokenError, ValueError):
        raise unauthorized from None


async def require_path_owner(user_id: str, caller_id: Annotated[UUID, Depends(read_token)]) -> UUID:
    """The caller's id, where the path is the caller's."""
    if user_id not in ("me", str(caller_id)):
        raise HTTPException(status.HTTP_403_FORBIDDEN)
    return caller_id


CallerId = Annotated[UUID, Depends(require_path_owner)]
