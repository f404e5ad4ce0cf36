"""Columns: whose header in the sheet means which column of the result."""

import re
import unicodedata
from collections.abc import Sequence

# Words that people write in several ways; each maps to one spelling, token by token.
_WORDS = {
    "no": "number",
    "nr": "number",
    "num": "number",
    "#": "number",
    "qty": "quantity",
    "amt": "amount",
    "tel": "phone",
    "telephone": "phone",
    "mail": "email",
    "desc": "description",
    "addr": "address",
    "dept": "department",
    "cat": "category",
    "%": "percent",
    "pct": "percent",
    "curr": "currency",
    "ccy": "currency",
    "postcode": "zip",
    "zipcode": "zip",
    "dob": "birthday",
    "birthdate": "birthday",
}
# After that, what is said in more than one word.
_PHRASES = {
    "e email": "email",
    "e email address": "email",
    "email address": "email",
    "phone number": "phone",
    "zip code": "zip",
    "postal code": "zip",
    "post code": "zip",
    "date of birth": "birthday",
    "birth date": "birthday",
}
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TOKEN = re.compile(r"[^\W_]+|[#%]")


def match_columns(header: Sequence[str], names: Sequence[str]) -> list[int | None]:
    """For each name the index of its header, or None where the sheet has none. No header is used twice.

    The closest spelling wins: the same text, then but for case and spaces, then but for punctuation,
    camelCase and accents, then by common synonyms.
    """
    return Headings(names).places_in(header)


class Headings:
    """Names of columns, spelled once, to be looked for in any number of rows."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._spelled = {spelled: [spelled(name) for name in names] for spelled in _SPELLINGS}
        self._folded = set(self._spelled[_folded])
        self._synonymous = set(self._spelled[_synonymous])

    def places_in(self, header: Sequence[str]) -> list[int | None]:
        """As ``match_columns`` says."""
        found: list[int | None] = [None] * len(self._names)
        free = [index for index, text in enumerate(header) if self._may_be_one(text)]
        for spelled, names in self._spelled.items():
            by_spelling = {spelled(header[index]): index for index in reversed(free)}
            for position, name in enumerate(names):
                if found[position] is None and name in by_spelling:
                    found[position] = by_spelling.pop(name)
            used = set(found)
            free = [index for index in free if index not in used]
        return found

    def _may_be_one(self, text: str) -> bool:
        # The other spellings are the same only where one of these two is.
        return bool(text.strip()) and (_folded(text) in self._folded or _synonymous(text) in self._synonymous)


def _as_is(text: str) -> str:
    return text


def _folded(text: str) -> str:
    composed = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(composed.casefold().split())


def _plain(text: str) -> str:
    # A name of punctuation only stays what it is: else all of them would be the same.
    return " ".join(_tokens(text)) or _folded(text)


def _synonymous(text: str) -> str:
    plain = " ".join(_WORDS.get(token, token) for token in _tokens(text)) or _folded(text)
    return _PHRASES.get(plain, plain)


def _tokens(text: str) -> list[str]:
    split = _CAMEL.sub(" ", text)
    if split.isascii():
        return _TOKEN.findall(split.lower())
    decomposed = unicodedata.normalize("NFKD", split).casefold()
    return _TOKEN.findall("".join(part for part in decomposed if not unicodedata.combining(part)))


_SPELLINGS = (_as_is, _folded, _plain, _synonymous)
