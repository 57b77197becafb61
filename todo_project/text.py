"""Texts that people see: whether there is anything to see, and whether it stands on one line.

One rule for whatever bears a name: titles, and people's names. For models, serializers and views.
"""

import re
from contextlib import suppress
from unicodedata import category, combining, normalize

from django.core.exceptions import ValidationError

# Controls, formats, surrogates, unassigned code points (non-characters among them), private use,
# separators. White space is in Cc and Z*.
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp", "Zs"})

# Default_Ignorable_Code_Point, a property that unicodedata doesn't have: fillers of Hangul,
# variation selectors, tags, and more. It has been the same set since Unicode 14.
# Source: https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt
_DEFAULT_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f-\u1160\u17b4-\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_BRAILLE_BLANK = "\u2800"  # a symbol (So) without a dot

# As UAX #15 has it.
MARKS_MAX = 30
WORDS_MAX = 50  # labels of one task, say
WORD_MAX_CHARACTERS = 50
# How many code points one of NFC may stand for, as U+1F82 does.
_NFC_DECOMPOSES_TO = 4
# Their own class is that of a letter, but marks are what they decompose into.
_PAIRS_OF_MARKS = "\u0f73\u0f75\u0f81"

# All of Cc, which Unicode has promised never to change, and the separators of lines and paragraphs;
# as a class of regular expressions, Python's and ECMAScript's. The database has the same: see
# migration tasks.0003.
NO_LINE = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_BREAKS_LINE = re.compile(f"[{NO_LINE}]")


def is_visible(text: str) -> bool:
    """Whether any character of `text` can be seen. A joiner or selector beside it is no harm."""
    return any(map(_is_visible_character, text))


def validate_line(text: str) -> None:
    """Raises ValidationError (`blank`, `control_characters`) for what is no line to be read."""
    if _BREAKS_LINE.search(text):
        raise ValidationError(
            "Write it on one line, without line breaks, tabs and other control characters.",
            code="control_characters",
        )
    if not is_visible(text):
        raise ValidationError("Write at least one character that can be seen.", code="blank")


def validate_marks(text: str) -> None:
    """Raises ValidationError (`combining_marks`) for more marks in a row than any writing has.

    Unicode's stream-safe format (UAX #15, section 13): to bring marks into their order takes a time
    that grows with the square of their number, seconds for 20,000 of them, in whatever normalises.
    """
    marks = 0
    for character in "" if text.isascii() else text:
        marks = marks + 1 if combining(character) or character in _PAIRS_OF_MARKS else 0
        if marks > MARKS_MAX:
            raise ValidationError(
                f"Leave out combining marks: at most {MARKS_MAX} may follow one another.",
                code="combining_marks",
            )


def read_word(text: str) -> str:
    """A word, such as a label, as it is kept: a line of its own without a comma, trimmed, in NFC.

    Raises ValidationError (`max_length`, `comma`, and what is no line) for what is none.
    """
    word = text.strip()
    # What is longer than any word can be is not normalised: see validate_marks().
    if len(word) <= WORD_MAX_CHARACTERS * _NFC_DECOMPOSES_TO:
        word = normalize("NFC", word)
    if len(word) > WORD_MAX_CHARACTERS:
        raise ValidationError(f"At most {WORD_MAX_CHARACTERS} characters.", code="max_length")
    if "," in word:
        raise ValidationError(
            "A comma separates them where lists are filtered; none can have one.", code="comma"
        )
    validate_line(word)
    validate_marks(word)
    return word


def header_text(value: str) -> str:
    """A header's value as its sender meant it, without control characters.

    PEP 3333 hands bytes over as Latin-1; clients that write more than ASCII write UTF-8.
    """
    with suppress(UnicodeError):
        value = value.encode("latin-1").decode("utf-8")
    return _BREAKS_LINE.sub("", value)


def _is_visible_character(character: str) -> bool:
    return (
        category(character) not in _INVISIBLE_CATEGORIES
        and not _DEFAULT_IGNORABLE.match(character)
        and character != _BRAILLE_BLANK
    )
