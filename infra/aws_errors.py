"""AWS errors in our own words: what they mean to a job."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from consumers.aws_retry import error_code, error_status, may_pass
from consumers.errors import JobError, Permanent, Transient
from events.results import FailureCode

# Mistakes around us that an operator can mend, after which the same job succeeds: rights, keys, names.
# S3 and SQS report them with status 401 or 403, or with one of these. Source: SQS API reference, "Common Errors".
OPERATOR_CODES = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ConditionalRequestConflict",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidToken",
        "NoSuchBucket",
        "NonExistentQueue",
        "NotAuthorized",
        "OperationAborted",
        "OptInRequired",
        "OverLimit",
        "QueueDoesNotExist",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)

UNAVAILABLE = "The file store does not answer just now. Your files are safe; please try again in a few minutes."
UNREADY = "The file store refuses us just now. Your files are safe; the operator has been told. Please try again later."
OURS = "Something went wrong on our side that trying again will not mend; the operator has been told."


@contextmanager
def in_our_words() -> Iterator[None]:
    """Turn the SDK's errors into JobErrors.

    Transient (``storage_unavailable``): what passes, and what an operator can mend (access denied, keys
    expired, bucket or queue missing). The job is then tried again by the queue's rules, and ends as a
    dead letter rather than as the uploader's fault. Permanent (``internal``): any other refusal; the
    request itself was wrong.
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise job_error(error) from error


def job_error(error: ClientError | BotoCoreError) -> JobError:
    if may_pass(error):
        return Transient(FailureCode.STORAGE_UNAVAILABLE, UNAVAILABLE)
    if isinstance(error, ClientError):
        code = error_code(error)
        refused = error_status(error) in {401, 403} or code in OPERATOR_CODES or code.startswith(("KMS.", "Kms"))
        wrong = not refused
    else:
        wrong = isinstance(error, ParamValidationError)
    if wrong:
        return Permanent(FailureCode.INTERNAL, OURS)
    return Transient(FailureCode.STORAGE_UNAVAILABLE, UNREADY)
