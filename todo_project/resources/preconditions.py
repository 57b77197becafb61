"""If-Match and If-None-Match, and the tags that they name (RFC 9110, sections 8.8.3 and 13.1).

The tag of a row is `"<epoch>-<revision>-<version>"`: of its owner's clock, which is random, of what
answers look like, and of the row. So no two people have one alike, nor two releases that answer
differently, nor a database that was put back to an earlier day (`manage.py new_epochs`). That of a
list is weak, and of the clock.
"""

import re
from collections.abc import Sequence

from rest_framework.request import Request

ANY = "*"

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
# Empty elements are left by whoever joins and splits lists (RFC 9110, section 5.6.1).
_TAGS = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")
_STRONG = re.compile(r'(?<![W/])"([0-9a-f]+)-[0-9a-f]+-([0-9]{1,19})"')


def expected_versions(request: Request) -> Sequence[str] | None:
    """What If-Match asks for: `epoch-version` of each strong tag; None where it asks for nothing.

    Not the revision: who saw the row before a release may still change it. Weak and malformed tags
    match nothing, and `*` whatever is there.
    """
    header = request.META.get("HTTP_IF_MATCH")
    if header is None or header.strip() == ANY:
        return None
    if not _TAGS.fullmatch(header):
        return []
    return [f"{epoch}-{int(version)}" for epoch, version in _STRONG.findall(header)]


def known_tags(request: Request) -> Sequence[str] | None:
    """What If-None-Match names, weak or strong alike, or `*`; None without the header.

    A malformed one names nothing.
    """
    header = request.META.get("HTTP_IF_NONE_MATCH")
    if header is None:
        return None
    if header.strip() == ANY:
        return [ANY]
    if not _TAGS.fullmatch(header):
        return []
    return [tag.removeprefix("W/") for tag in re.findall(_TAG, header)]


def expected_version(version: int) -> Sequence[str]:
    """What `if_version` of a batch asks for: of whatever epoch, which isn't sent with it."""
    return [f"-{version}"]


# Whether an `item` is one of those that If-Match names, or `if_version` of a batch.
MATCHES = (
    "ARRAY[(SELECT epoch FROM clock) || '-' || item.version, '-' || item.version]"
    " && %(if_match)s::text[]"
)


def list_tag_sql(revision: str) -> str:
    """The tag of what depends on everything that is the person's, without its `W/`."""
    return f"""'"' || clock.epoch || '-{revision}-' || clock.version || '"'"""


def unless_known(tag_sql: str) -> str:
    """The condition of what has changed since. PostgreSQL asks it once, before it reads any row."""
    return f"(SELECT NOT ARRAY[{tag_sql}, '*'] && %(known)s::text[] FROM clock)"
