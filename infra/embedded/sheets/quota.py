"""The quota: so many reads and so many writes per minute for each user, counted apart."""

from collections import deque
from collections.abc import Callable

from infra.embedded.sheets.errors import ApiError

WINDOW_SECONDS = 60.0


class Quota:
    """Raises ApiError 429 for a call too many; a refused call does not count. None for no limit."""

    def __init__(self, per_minute: int | None, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._taken: dict[tuple[str, bool], deque[float]] = {}

    def take(self, email: str, project: str, *, is_write: bool) -> None:
        if self.per_minute is None:
            return
        taken = self._taken.setdefault((email, is_write), deque())
        now = self._clock()
        while taken and taken[0] <= now - WINDOW_SECONDS:
            taken.popleft()
        if len(taken) >= self.per_minute:
            raise _exceeded("Write" if is_write else "Read", project)
        taken.append(now)


def _exceeded(kind: str, project: str) -> ApiError:
    metric, limit = f"{kind} requests", f"{kind} requests per minute per user"
    number = f"project_number:{sum(map(ord, project)) * 10_007}"
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "RATE_LIMIT_EXCEEDED",
        "domain": "googleapis.com",
        "metadata": {
            "service": "sheets.googleapis.com",
            "consumer": number.replace("project_number:", "projects/"),
            "quota_metric": f"sheets.googleapis.com/{kind.lower()}_requests",
            "quota_limit": f"{kind}RequestsPerMinutePerUser",
        },
    }
    message = (
        f"Quota exceeded for quota metric '{metric}' and limit '{limit}' "
        f"of service 'sheets.googleapis.com' for consumer '{number}'."
    )
    return ApiError(429, message, details=[info])
