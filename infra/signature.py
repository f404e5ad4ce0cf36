"""The signature of one request, by version 4 of AWS's scheme, over every header that it is given.

Source: IAM User Guide, "Create a signed AWS API request"; S3 API reference, "Signature Calculations".
"""

import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from urllib.parse import urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Keys:
    access_key: str
    secret_key: str
    token: str | None


@dataclass(frozen=True, slots=True)
class Scope:
    """What the signature is good for: one service (its signing name) in one region."""

    region: str
    service: str


def signed(
    method: str, url: str, headers: Mapping[str, str], body: bytes, *, keys: Keys, scope: Scope, at: float | None = None
) -> dict[str, str]:
    """The headers to send: those given, the ones that signing adds, and ``Authorization``.

    ``url`` has its path and query percent-encoded, as they are sent; neither may need normalising. The body's
    SHA-256 is always part of the signature. ``at`` is in seconds since the epoch, now by default.
    """
    parts = urlsplit(url)
    timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    digest = sha256(body).hexdigest()
    added = {"X-Amz-Date": timestamp}
    if scope.service == "s3":
        added["X-Amz-Content-SHA256"] = digest
    if keys.token:
        added["X-Amz-Security-Token"] = keys.token
    sent = {**headers, **added}
    lowered = {name.lower(): " ".join(value.split()) for name, value in sent.items()}
    lowered["host"] = _host(parts.scheme, parts.hostname or "", parts.port)
    names = sorted(lowered)
    listed = ";".join(names)
    canonical = "\n".join(
        (
            method,
            parts.path or "/",
            _canonical_query(parts.query),
            *(f"{name}:{lowered[name]}" for name in names),
            "",
            listed,
            digest,
        )
    )
    date = timestamp[:8]
    where = f"{date}/{scope.region}/{scope.service}/aws4_request"
    to_sign = f"{ALGORITHM}\n{timestamp}\n{where}\n{sha256(canonical.encode()).hexdigest()}"
    signature = _mac(_signing_key(keys.secret_key, date, scope), to_sign).hex()
    sent["Authorization"] = (
        f"{ALGORITHM} Credential={keys.access_key}/{where}, SignedHeaders={listed}, Signature={signature}"
    )
    return sent


def _host(scheme: str, name: str, port: int | None) -> str:
    """As the ``Host`` header says it: an IPv6 address in brackets, and no port where it is the scheme's own."""
    host = f"[{name}]" if ":" in name else name
    return host if port in (None, _DEFAULT_PORTS[scheme]) else f"{host}:{port}"


def _canonical_query(query: str) -> str:
    pairs = (part.partition("=") for part in query.split("&") if part)
    return "&".join(f"{name}={value}" for name, value in sorted((name, value) for name, _, value in pairs))


@lru_cache(maxsize=8)
def _signing_key(secret: str, date: str, scope: Scope) -> bytes:
    key = _mac(f"AWS4{secret}".encode(), date)
    for part in (scope.region, scope.service, "aws4_request"):
        key = _mac(key, part)
    return key


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
