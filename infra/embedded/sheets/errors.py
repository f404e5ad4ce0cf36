"""What the API refuses, in Google's own error body.

Source: Google API design guide, "Errors": ``{"error": {"code", "message", "status", "details"}}``.
"""

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

STATUS_OF = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ApiError(Exception):
    """A reply other than 200: ``code`` is the HTTP status, ``status`` Google's word for it."""

    def __init__(self, code: int, message: str, *, status: str = "", details: Sequence[Json] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or STATUS_OF.get(code, "UNKNOWN")
        self.details = details

    def body(self) -> Json:
        error: Json = {"code": self.code, "message": self.message, "status": self.status}
        if self.details:
            error["details"] = list(self.details)
        return {"error": error}

    def within(self, place: str) -> "ApiError":
        """The same refusal, said of one request of a batch."""
        return ApiError(self.code, f"Invalid {place}: {self.message}", status=self.status, details=self.details)


def invalid(message: str) -> ApiError:
    return ApiError(400, message)


def bad_field(field: str, message: str) -> ApiError:
    """A request that does not fit the discovery document; ``field`` is where, or empty for the root."""
    violation = {"field": field, "description": message} if field else {"description": message}
    detail = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}
    return ApiError(400, message, details=[detail])


def bad_mask(path: str) -> ApiError:
    message = f"Error expanding 'fields' parameter. Cannot find matching fields for path '{path}'."
    violation = {"field": path, "description": message}
    detail = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}
    return ApiError(400, "Request contains an invalid argument.", details=[detail])


def not_emulated(what: str) -> ApiError:
    """Google does this; the emulator does not, and says so instead of doing nothing."""
    return ApiError(501, f"The emulator does not support {what}.")


def forbidden() -> ApiError:
    return ApiError(403, "The caller does not have permission")


def not_found() -> ApiError:
    return ApiError(404, "Requested entity was not found.")
