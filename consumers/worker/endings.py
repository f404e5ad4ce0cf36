"""How a job ends without an answer of its flow: what the uploader is told."""

from consumers.errors import Permanent
from events.results import FailureCode

# For the operator.
NO_WORD = "Every attempt was broken off by an error that nobody foresaw, or with its worker: see the workers' logs."


def given_up(code: FailureCode) -> Permanent:
    return Permanent(
        code,
        "We could not answer this although we tried several times. Please try again later; our team has been told.",
    )


def too_slow() -> Permanent:
    return Permanent(FailureCode.CODE_TIMEOUT, "This took too long. Ask for less at once, or drop smaller files.")


def expired() -> Permanent:
    return Permanent(FailureCode.EXPIRED, "This request has expired. Drop the files again to have it answered.")


def manifest_gone() -> Permanent:
    return Permanent(
        FailureCode.MANIFEST_GONE,
        "The request was removed before it was answered. Drop the files again to have it answered.",
    )


def manifest_changed() -> Permanent:
    return Permanent(
        FailureCode.MANIFEST_CHANGED,
        "The request was changed after it had been handed in, so it was not answered. Drop the files again, as a new "
        "request.",
    )
