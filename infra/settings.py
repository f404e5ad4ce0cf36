"""Settings: read once from the environment (and ``.env``), frozen, passed on."""

from pathlib import Path
from typing import Literal, Self

from pydantic import AliasChoices, Field, NonNegativeInt, PositiveFloat, PositiveInt, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

GIB = 1024**3


class Settings(BaseSettings):
    """Units live in the names. Every field of ours is ``DROPCHUTE_<NAME>`` in the environment."""

    model_config = SettingsConfigDict(
        allow_inf_nan=False,
        env_prefix="DROPCHUTE_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    # The cloud: AWS's own names. Without keys the SDK's own chain (role, profile) is used.
    bucket: str = Field(default="dropchute-temp", validation_alias=AliasChoices("AWS_TEMP_BUCKET", "bucket"))
    region: str = Field(
        default="us-east-1", validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION", "region")
    )
    aws_endpoint_url: str | None = Field(
        default=None, validation_alias=AliasChoices("AWS_ENDPOINT_URL", "aws_endpoint_url")
    )
    public_endpoint_url: str | None = Field(default=None, pattern=r"^(https?://[^/\s]+\S*)?$")
    """Where the uploader's browser reaches S3, if that is another endpoint than the workers'."""
    aws_access_key_id: str | None = Field(
        default=None, validation_alias=AliasChoices("AWS_ACCESS_KEY_ID", "aws_access_key_id")
    )
    aws_secret_access_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("AWS_SECRET_ACCESS_KEY", "aws_secret_access_key")
    )
    aws_session_token: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("AWS_SESSION_TOKEN", "aws_session_token")
    )
    stack: str = Field(default="dropchute", pattern=r"^[a-z0-9-]{1,40}$")
    """Begins the name of every queue."""

    # The language model: any OpenAI-compatible chat endpoint.
    openai_base_url: str = Field(
        default="https://api.openai.com/v1", validation_alias=AliasChoices("OPENAI_BASE_URL", "openai_base_url")
    )
    openai_api_key: SecretStr = Field(
        default=SecretStr(""), validation_alias=AliasChoices("OPENAI_API_KEY", "openai_api_key")
    )
    llm_model: str = Field(default="gpt-4.1-mini", validation_alias=AliasChoices("LLM_MODEL", "llm_model"))
    llm_sample_rows: int = Field(
        default=3, ge=0, le=50, validation_alias=AliasChoices("LLM_SAMPLE_ROWS", "llm_sample_rows")
    )
    llm_timeout_seconds: PositiveFloat = 120
    llm_max_reply_tokens: PositiveInt = 1500
    llm_attempts: PositiveInt = 3
    """Tries of one call, and of one answer: how often the model may mend its code."""

    # Google Sheets, as a service account with whom users share their sheets.
    google_service_account_file: Path | None = Field(
        default=None, validation_alias=AliasChoices("GOOGLE_SERVICE_ACCOUNT_FILE", "google_service_account_file")
    )
    sheets_endpoint_url: str = "https://sheets.googleapis.com"
    sheets_calls_per_minute: PositiveInt = 60
    """Reads, and writes, of all workers together: Google's own limit for one account."""

    # The worker.
    lanes: PositiveInt = 4
    """Jobs at once, of each flow."""
    memory_bytes: PositiveInt | None = None
    """What all jobs at once may need; three quarters of the machine's or the container's unless told."""
    bytes_at_once: PositiveInt | None = None
    """Of uploaded files, by all jobs at once; half of what scratch has free at the start unless told."""
    receive_wait_seconds: int = Field(default=20, ge=0, le=20)
    visibility_seconds: int = Field(default=60, ge=2, le=43_200)
    claim_seconds: PositiveFloat = 60
    heartbeat_seconds: PositiveFloat = 5
    drain_seconds: PositiveFloat = 25
    job_attempts: PositiveInt = 3
    job_seconds: PositiveFloat = 1800
    retry_base_seconds: PositiveFloat = 5
    scratch: Path | None = None
    """Where jobs keep their temporary files; the system's own place unless told."""

    # Whether it is alive.
    health_port: int | None = Field(default=None, ge=0, le=65_535)
    """Where the worker answers ``/healthz`` and ``/readyz``; nowhere unless told."""
    health_host: str = "127.0.0.1"
    no_progress_minutes: PositiveFloat = 30

    # Limits of one drop.
    max_file_bytes: PositiveInt = 2 * GIB
    max_drop_bytes: PositiveInt = 4 * GIB
    max_result_bytes: PositiveInt = 1 * GIB

    # What is kept.
    link_seconds: int = Field(default=900, ge=1, le=604_800)
    """How long a link to a result works; S3 signs for seven days at the most."""
    abandoned_after_minutes: PositiveInt = 60
    """How long uploads lie untouched before a sweep removes them."""

    stuck_after_minutes: PositiveInt = 10
    """How long nothing of a job must have changed before ``dropchute reconcile`` asks for it again."""

    # The sandbox.
    sandbox_min_tier: Literal["process", "landlock", "namespaces", "gvisor"] = "namespaces"
    """The weakest tier that may hold untrusted code; the strongest that there is, is taken (gvisor only if named)."""

    sandbox_spares: NonNegativeInt = 2
    """How many guests wait behind their walls before there is a task for them."""

    sandbox_wall_seconds: PositiveFloat = 60
    sandbox_memory_bytes: PositiveInt = 2 * GIB

    @model_validator(mode="after")
    def _claims_outlast_heartbeats(self) -> Self:
        if self.claim_seconds < 3 * self.heartbeat_seconds:
            raise ValueError(
                "DROPCHUTE_CLAIM_SECONDS must be at least three times DROPCHUTE_HEARTBEAT_SECONDS, "
                "or a running job loses its claim"
            )
        return self

    @property
    def links_endpoint_url(self) -> str | None:
        """The endpoint that links name; one that is set to nothing is not set."""
        return self.public_endpoint_url or self.aws_endpoint_url
