"""A call to the API and its reply, as values; and the faults that tests put between them."""

from dataclasses import dataclass

from infra.embedded.sheets.errors import Json


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One request: ``path`` as on the wire (percent-encoded, without query), ``query`` decoded.

    ``email`` is the account whose token came along, None without a valid one; ``project`` is its project.
    """

    method: str
    path: str
    query: list[tuple[str, str]]
    body: bytes
    email: str | None
    project: str = "dropchute-dev"


@dataclass(frozen=True, slots=True)
class Reply:
    """What is told; ``after_seconds`` is how long the server waits before it tells."""

    status: int
    json: Json
    after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the log: ``number`` counts from 1, ``method`` is a name like ``spreadsheets.batchUpdate``.

    ``body_bytes`` is the size of what was sent.
    """

    number: int
    method: str
    spreadsheet_id: str | None
    is_write: bool
    email: str | None
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nothing is applied; ``status`` is HTTP's, ``reason`` Google's word for it where it is not the usual one."""

    status: int
    message: str = "The service is currently unavailable."
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LoseReply:
    """Applied, but the connection closes without a reply."""


@dataclass(frozen=True, slots=True)
class ApplyThen:
    """Applied, but an error is told."""

    status: int
    message: str = "Internal error encountered."
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hang:
    """Applied, but the reply comes only after so many seconds; the pure core only says so in the reply."""

    seconds: float


Fault = Refuse | LoseReply | ApplyThen | Hang


class ReplyLost(Exception):
    """The call was answered, and the answer never arrived; ``reply`` is what it was."""

    def __init__(self, reply: Reply) -> None:
        super().__init__("the connection was closed without a reply")
        self.reply = reply
