"""What the contract's fields are made of: each type keeps one rule, and says so when it is broken.

Constraints stand before validators: only then does pydantic refuse half of a surrogate pair in a text.
"""

import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from events.text import sendable

MAX_QUERY_CHARS = 20_000
MAX_NAME_CHARS = 255
MAX_KEY_BYTES = 1024
# What every JSON reader holds exactly: RFC 8259, section 6.
MAX_INTEGER = 2**53 - 1

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


def _on_one_line(text: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text):
        raise PydanticCustomError("control_character", "must not hold control characters or line breaks")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must say what to do with the files")
    return text


def _fits_s3(key: str) -> str:
    if len(key.encode()) > MAX_KEY_BYTES:
        raise PydanticCustomError("key_too_long", "must have at most 1,024 bytes of UTF-8, as S3 wants it")
    return key


def _is_rfc3339(value: Any) -> Any:
    # pydantic also reads seconds since 1970, as numbers and as text.
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC3339.fullmatch(value)):
        return value
    raise PydanticCustomError("rfc3339", "must be a time with its zone, like 2026-01-31T12:00:00Z")


def _is_near(moment: datetime) -> datetime:
    # Further out, adding a duration may overflow.
    if not 1970 <= moment.year < 3000:
        raise PydanticCustomError("far_time", "must lie between the years 1970 and 2999")
    return moment


def _sendable(value: Any) -> Any:
    return sendable(value) if isinstance(value, str) else value


ON_ONE_LINE = AfterValidator(_on_one_line)


def _is_whole(value: Any) -> Any:
    if type(value) is not int:
        raise PydanticCustomError("whole_number", "must be a whole number")
    return value


DisplayName = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS), ON_ONE_LINE]
Query = Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARS), AfterValidator(_not_blank)]
HttpsUrl = Annotated[str, Field(pattern=r"^https://\S+$", max_length=2048), ON_ONE_LINE]
S3Key = Annotated[str, Field(min_length=1, max_length=MAX_KEY_BYTES), AfterValidator(_fits_s3)]
# Base64 of four bytes: the last digit has four bits to spare, and they are zero.
Crc32 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{5}[AQgw]==$")]
Moment = Annotated[AwareDatetime, BeforeValidator(_is_rfc3339), AfterValidator(_is_near)]
# W3C Trace Context, "traceparent Header".
TraceParent = Annotated[str, Field(pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")]

# Strict: a JSON true, "3" and 3.0 are no integers here.
# In Python True == 1 and 1.0 == 1; in JSON they are other things.
VersionOne = Annotated[Literal[1], BeforeValidator(_is_whole)]
Index = Annotated[int, Field(strict=True, ge=0, lt=1_000_000)]
FileSize = Annotated[int, Field(strict=True, ge=0, le=MAX_INTEGER)]
PageCount = Annotated[int, Field(strict=True, ge=1, le=MAX_INTEGER)]
Count = Annotated[int, Field(ge=0)]
Epoch = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]

# What users, models and sandboxes write ends in these; one odd character must not keep an event from its queue.
Prose = Annotated[str, BeforeValidator(_sendable)]
