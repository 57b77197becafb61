"""The codes of what may be wrong with a field."""

from collections.abc import Mapping

# Of a field's faults, which `details` holds. The document lists them, for forms to translate; a
# test looks for any that isn't here.
FIELD_CODES: Mapping[str, str] = {
    "unknown": "no such field or parameter; the message names those that there are",
    "required": "missing",
    "null": "null is not a value of it",
    "invalid": "not of its type or form; in `token`, a link that was used or is too old",
    "blank": "no visible character",
    "control_characters": "a line break, or another control character, in what is one line",
    "combining_marks": "more marks on one letter than any writing has",
    "max_length": "too many characters",
    "min_length": "too few characters",
    "max_value": "too large a number",
    "min_value": "too small a number",
    "invalid_choice": "none of the choices",
    "rfc3339": "no date-time of RFC 3339 with an offset",
    "past": "a time that has passed",
    "null_characters_not_allowed": "has U+0000",
    "duplicate_key": "stands in the body more than once",
    "repeated": "stands in the query, or in a list, more than once",
    "empty": "a query parameter without a value, or a list of nothing",
    "invalid_cursor": "made for another list, other filters or another order, or not made here",
    "unique": "taken",
    "not_supported": "a header that this operation doesn't take",
    "immutable": "can't be changed",
    "wrong_password": "not the caller's password",
    "no_password": "the account signs in at its identity provider, and has no password or session",
    "password_too_short": "too few characters",
    "password_too_long": "too many characters",
    "password_too_common": "one of those that everybody tries first",
    "password_too_similar": "like the address or the name",
    "password_entirely_numeric": "digits alone",
    "password_blank": "white space alone",
    "operator": "an operator's account is deactivated, and not deleted",
}
