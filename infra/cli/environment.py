"""The settings of a command: read from the environment, or an ending that names the variable."""

import ipaddress
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError

from infra.cli.endings import wrong_usage
from infra.settings import Settings

PREFIX = "DROPCHUTE_"


def read_settings() -> Settings:
    """Read and check the settings.

    An endpoint on this machine is given the keys that every emulator takes, if there are none: real keys of
    a profile or a role have no business there.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # What is wrong between two variables names them itself.
        which = f"{_variable(str(first['loc'][0]))}: " if first["loc"] else ""
        raise wrong_usage(f"{which}{first['msg'].removeprefix('Value error, ')}.") from error
    except (UnicodeDecodeError, PermissionError) as error:
        raise wrong_usage(f".env cannot be read: {error}.") from error
    # Set but empty means unset: Docker Compose passes variables on like that.
    endpoint = settings.aws_endpoint_url or None
    model_url = settings.openai_base_url or str(Settings.model_fields["openai_base_url"].default)
    _check_url("AWS_ENDPOINT_URL", endpoint)
    _check_url("OPENAI_BASE_URL", model_url)
    changes: dict[str, object] = {"aws_endpoint_url": endpoint, "openai_base_url": model_url}
    if endpoint is not None and on_this_machine(endpoint) and settings.aws_access_key_id is None:
        changes |= {"aws_access_key_id": "test", "aws_secret_access_key": SecretStr("test")}
    return settings.model_copy(update=changes)


def model_is_configured(settings: Settings) -> bool:
    """Whether somebody named a language model: an endpoint, or a key for the default one."""
    default = Settings.model_fields["openai_base_url"].default
    return bool(settings.openai_api_key.get_secret_value()) or settings.openai_base_url != default


def on_this_machine(url: str) -> bool:
    """Whether a URL's host is ``localhost`` or a loopback address."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_url(variable: str, url: str | None) -> None:
    if url is None:
        return
    try:
        parts = urlsplit(url)
        complete = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if not complete:
        raise wrong_usage(f"{variable} must be a whole URL, like http://127.0.0.1:4566.")


def _variable(location: str) -> str:
    """The variable behind a field: an alias is named as it is, a field of ours in lower case."""
    return location if location.isupper() else f"{PREFIX}{location.upper()}"
