"""Service accounts: a key file like Google's, and the OAuth2 grant that turns its signature into an access token.

Source: Google identity guide, "Using OAuth 2.0 for server to server applications"; RFC 7523.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt
from google.auth.exceptions import GoogleAuthError

from infra.embedded.sheets.errors import Json

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GOOGLE_AUDIENCE = "https://oauth2.googleapis.com/token"
"""What google-auth signs as the audience, wherever it sends the assertion."""

TOKEN_SECONDS = 3600
SCOPES = frozenset({"https://www.googleapis.com/auth/spreadsheets", "https://www.googleapis.com/auth/drive"})


class GrantRefused(Exception):
    """No token: ``code`` is OAuth2's word for why."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code
        self.description = description


@dataclass(frozen=True, slots=True)
class Account:
    email: str

    @property
    def project(self) -> str:
        """``name@PROJECT.iam.gserviceaccount.com``."""
        return self.email.partition("@")[2].removesuffix(".iam.gserviceaccount.com")


@cache
def _key_pair() -> tuple[str, str]:
    """The private and the public key of every account of this process, in PEM."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private_pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private_pem.decode(), public_pem.decode()


class Accounts:
    """The accounts that have a key file, and the tokens that they were given."""

    def __init__(self, token_uri: str, clock: Callable[[], float]) -> None:
        self._token_uri = token_uri
        self._clock = clock
        self._known: set[str] = set()
        self._tokens: dict[str, tuple[Account, float]] = {}

    def key_file(self, email: str) -> dict[str, str]:
        """What the JSON key file of a service account holds."""
        self._known.add(email)
        host = self._token_uri.rpartition("/")[0]
        return {
            "type": "service_account",
            "project_id": Account(email).project,
            "private_key_id": "0" * 40,
            "private_key": _key_pair()[0],
            "client_email": email,
            "client_id": "100000000000000000000",
            "auth_uri": f"{host}/auth",
            "token_uri": self._token_uri,
            "universe_domain": "googleapis.com",
        }

    def grant(self, grant_type: str, assertion: str) -> Json:
        """A token for a signed assertion; raises GrantRefused."""
        if grant_type != GRANT_TYPE:
            raise GrantRefused("unsupported_grant_type", "Invalid grant_type: " + grant_type[:100])
        try:
            claims = jwt.decode(assertion, certs=_key_pair()[1], audience=[self._token_uri, GOOGLE_AUDIENCE])  # type: ignore[no-untyped-call]
        except (ValueError, GoogleAuthError) as error:
            raise GrantRefused("invalid_grant", f"Invalid JWT: {error}") from error
        email = claims.get("iss", "")
        if email not in self._known:
            raise GrantRefused("invalid_grant", "Invalid grant: account not found")
        if claims.get("sub", email) != email:
            raise GrantRefused("unauthorized_client", "Client is unauthorized to retrieve access tokens for others.")
        if not SCOPES & set(str(claims.get("scope", "")).split()):
            raise GrantRefused("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        token = f"ya29.{secrets.token_urlsafe(32)}"
        self._tokens[token] = (Account(email), self._clock() + TOKEN_SECONDS)
        return {"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": "Bearer"}

    def of_token(self, authorization: str) -> Account | None:
        """Whose token an Authorization header carries, None if it is missing, unknown or too old."""
        kind, _, token = authorization.partition(" ")
        account, until = self._tokens.get(token, (None, 0.0))
        return account if kind.lower() == "bearer" and self._clock() < until else None
