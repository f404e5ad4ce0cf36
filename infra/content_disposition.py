"""Content-Disposition: how a browser is told to save what it fetches, and under which name."""

import re
import unicodedata
from pathlib import PurePosixPath
from urllib.parse import quote

NAMELESS = "download"
# File systems take 255 bytes, and a browser adds " (1)" to a name that is taken.
MAX_NAME_BYTES = 200
MAX_SUFFIX_BYTES = 20

# Unicode's own kinds: control and format characters (which reorder a name, ".exe" before "cod."), lone halves of
# surrogate pairs, line and paragraph separators.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_UNUSABLE_IN_NAMES = re.compile(r'[/\\:*?"<>|]')
# Quotes and backslashes would end or escape the quoted form; some readers decode percent signs in it.
_NOT_PLAIN = re.compile(r'[^\x20-\x7e]|["\\%]')


def attachment(name: str) -> str:
    """The header's value, in ASCII, for any name at all: RFC 6266, with the name in RFC 5987's form too.

    What no file system takes, or what hides how a name ends, is replaced or left out; long names are cut
    before their extension.
    """
    safe = _safe(name)
    plain = _NOT_PLAIN.sub("_", safe)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(safe, safe='')}"


def _safe(name: str) -> str:
    visible = "".join(each for each in name if unicodedata.category(each) not in _INVISIBLE)
    # Windows drops dots and spaces at the end; at the start a dot hides the file.
    return _cut(_UNUSABLE_IN_NAMES.sub("_", visible).strip(". ")) or NAMELESS


def _cut(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    if len(suffix.encode()) > MAX_SUFFIX_BYTES:
        suffix = ""
    stem = name.removesuffix(suffix).encode()[: MAX_NAME_BYTES - len(suffix.encode())]
    return stem.decode(errors="ignore") + suffix
