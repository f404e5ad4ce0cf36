"""What can go wrong. The type is the queue's decision; the text is for the person who asked."""

from events.results import FailureCode

# Codes after which an operator must look: the front end, the model or we ourselves are at fault.
# The uploader can mend every other one, so it leaves no dead letter.
OPERATOR_CODES = frozenset(
    {
        FailureCode.MANIFEST_NOT_JSON,
        FailureCode.MANIFEST_TOO_LARGE,
        FailureCode.MANIFEST_VERSION,
        FailureCode.MANIFEST_INVALID,
        FailureCode.MANIFEST_MISMATCH,
        FailureCode.MANIFEST_CHANGED,
        FailureCode.INDEX_RULE,
        FailureCode.FOREIGN_FILE,
        FailureCode.S3_URL_MISMATCH,
        FailureCode.MODEL_UNREACHABLE,
        FailureCode.MODEL_REJECTED,
        FailureCode.MODEL_NO_CODE,
        FailureCode.STORAGE_UNAVAILABLE,
        FailureCode.SHEETS_UNAVAILABLE,
        FailureCode.SHEETS_NOT_SET_UP,
        FailureCode.INTERNAL,
    }
)


class JobError(Exception):
    """A job cannot go on. ``code`` is stable, ``message`` tells the uploader what to do."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Transient(JobError):
    """The same job may succeed later."""


class Permanent(JobError):
    """The same job will always fail; say why in words the uploader understands."""


class ClaimLost(Exception):
    """Somebody else has the job now, or ended it: stop, and publish nothing."""


class LeaseLost(Exception):
    """The message may be visible to others: stop the job, and do not settle the message."""


class ObjectMissing(Exception):
    """There is no object under this key (or not in this version)."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class PreconditionFailed(Exception):
    """A conditional write met an object other than the expected one (S3's 412, or 404 for ``If-Match``)."""


class QueueMessageLost(Exception):
    """The queue no longer knows this receipt: the message is gone, or somebody else's."""


class SheetRefused(Exception):
    """Google Sheets said no, in its own words: ``status`` is HTTP's, ``reason`` its own name for it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class SheetUnclear(Exception):
    """A change was sent to Google Sheets, and nobody knows whether it was made."""


class HeldElsewhere(Exception):
    """A live claim holds the job for ``wait_seconds`` yet."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__(f"held for {wait_seconds:.1f} s")
        self.wait_seconds = wait_seconds
