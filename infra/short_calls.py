"""A shorter way for the calls that every job makes: the SDK's models and transport, without what lies between.

Most of what a call costs in the SDK are some three dozen hooks, an endpoint worked out anew, and a signature made of
slow headers. For the calls below nothing of it changes from one to the next.
"""

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from aiobotocore.client import AioBaseClient
from aiobotocore.endpoint import convert_to_response_dict
from aiobotocore.httpchecksum import handle_checksum_body
from aiobotocore.parsers import AioResponseParserFactory
from aiobotocore.session import AioSession
from botocore.awsrequest import AWSPreparedRequest, prepare_request_dict
from botocore.httpchecksum import resolve_response_checksum_algorithms
from botocore.utils import parse_timestamp

from infra.signature import Keys, Scope, signed

USER_AGENT = "dropchute"

# With other arguments than these, they go the SDK's own way.
_SHORT = {
    "PutObject": {"Bucket", "Key", "Body", "ContentType", "IfMatch", "IfNoneMatch"},
    "GetObject": {"Bucket", "Key", "VersionId", "ChecksumMode"},
    "DeleteObject": {"Bucket", "Key"},
    "ListObjectsV2": {"Bucket", "Prefix", "ContinuationToken"},
    "ListMultipartUploads": {"Bucket", "Prefix"},
    "ReceiveMessage": {
        "QueueUrl",
        "MaxNumberOfMessages",
        "WaitTimeSeconds",
        "VisibilityTimeout",
        "MessageSystemAttributeNames",
    },
    "DeleteMessageBatch": {"QueueUrl", "Entries"},
    "ChangeMessageVisibilityBatch": {"QueueUrl", "Entries"},
    "SendMessageBatch": {"QueueUrl", "Entries"},
}
_SIGNATURES = frozenset({"v4", "s3v4"})
# The SDK sends a body piece by piece, after S3 has agreed to take it. A small one may go out at once.
_SMALL_BODY_BYTES = 64 * 1024
# S3 has done nothing then, and the SDK knows how to find the bucket's region.
_REDIRECTS, _REDIRECTED = frozenset({301, 302, 307}), "redirected"
_ELSEWHERE = frozenset({"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", _REDIRECTED})


def use_short_calls(session: AioSession) -> None:
    """Let the S3 and SQS clients that the session creates from now on take the shorter way.

    Their answers are the same, and so are their errors. There is one try of each call, and no hooks of other people.
    """
    session.register_component("response_parser_factory", _PARSERS)
    for service in ("s3", "sqs"):
        session.register(f"creating-client-class.{service}", _add_short_calls)


def _add_short_calls(base_classes: list[type], **_: Any) -> None:
    base_classes.insert(0, _ShortCalls)


def _is_short(operation_name: str, api_params: dict[str, Any]) -> bool:
    known, body = _SHORT.get(operation_name), api_params.get("Body", b"")
    fits = isinstance(body, bytes) and len(body) <= _SMALL_BODY_BYTES
    return fits and known is not None and known.issuperset(api_params)


def _moment(value: Any) -> datetime:
    """The two forms in which S3 tells the time, without the SDK's guessing at all that there are."""
    if isinstance(value, str) and value[10:11] == "T":
        return datetime.fromisoformat(value)
    if isinstance(value, str) and value.endswith(" GMT"):
        return parsedate_to_datetime(value)
    parsed: datetime = parse_timestamp(value)
    return parsed


_PARSERS: Any = AioResponseParserFactory()
_PARSERS.set_parser_defaults(timestamp_parser=_moment)


@dataclass(frozen=True, slots=True)
class _Way:
    """What the calls of one operation (for S3: on one bucket) have in common."""

    operation: Any
    context: dict[str, Any]
    # What the SDK adds to the arguments.
    added: dict[str, Any]
    url: str
    headers: dict[str, str]
    scope: Scope


class _ShortCalls(AioBaseClient):
    """A client that has the SDK find the way of a call once, and then takes it by itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._parser = _PARSERS.create_parser(self.meta.service_model.resolved_protocol)
        self._service_id = self.meta.service_model.service_id.hyphenize()
        self._ways: dict[tuple[str, str | None], _Way | None] = {}

    async def _make_api_call(self: Any, operation_name: str, api_params: dict[str, Any]) -> Any:
        if _is_short(operation_name, api_params):
            which = operation_name, api_params.get("Bucket")
            if which not in self._ways:
                self._ways[which] = await self._find_way(operation_name, api_params)
            way = self._ways[which]
            if way is not None:
                parsed, code = await self._call(way, api_params)
                if code is None:
                    return parsed
                if code not in _ELSEWHERE:
                    raise self.exceptions.from_code(code)(parsed, operation_name)
                self._ways[which] = None
        return await super()._make_api_call(operation_name, api_params)  # type: ignore[misc]  # the stubs leave it out

    async def _find_way(self: Any, operation_name: str, api_params: dict[str, Any]) -> _Way | None:
        """As the SDK does it for each call; None where it does what we do not know."""
        operation = self.meta.service_model.operation_model(operation_name)
        context = {
            "client_region": self.meta.region_name,
            "client_config": self.meta.config,
            "has_streaming_input": operation.has_streaming_input,
            "auth_type": operation.resolved_auth_type,
            "auth_options": self.meta.service_model.metadata.get("auth"),
        }
        given = {name: value for name, value in api_params.items() if name != "Body"}
        built = await self._emit_api_params(api_params=dict(given), operation_model=operation, context=context)
        url, headers, _ = await self._resolve_endpoint_ruleset(operation, built, context)
        signing = context.pop("signing", {})
        if (context["auth_type"] or self.meta.config.signature_version) not in _SIGNATURES or self._keys() is None:
            return None
        added = {name: value for name, value in built.items() if name not in given}
        signer = self._request_signer
        scope = Scope(signing.get("region", signer.region_name), signing.get("signing_name", signer.signing_name))
        return _Way(operation, context, added, url, headers, scope)

    def _keys(self: Any) -> Any:
        return self._request_signer._credentials  # noqa: SLF001 - they renew themselves, for this client alone

    async def _call(self: Any, way: _Way, api_params: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        """The parsed answer, and the code of its error if it is one."""
        operation, context = way.operation, dict(way.context)
        request = self._serializer.serialize_to_request({**way.added, **api_params}, operation)
        prepare_request_dict(request, endpoint_url=way.url, context=context)
        resolve_response_checksum_algorithms(request, operation, api_params)
        frozen = await self._keys().get_frozen_credentials()
        headers = signed(
            request["method"],
            request["url"],
            {**request["headers"], **way.headers},
            request["body"],
            keys=Keys(frozen.access_key, frozen.secret_key, frozen.token),
            scope=way.scope,
        )
        headers["User-Agent"] = USER_AGENT
        http = await self._endpoint.http_session.send(
            AWSPreparedRequest(
                request["method"],
                request["url"],
                headers,  # type: ignore[arg-type]  # the transport takes any mapping
                request["body"],
                operation.has_streaming_output,
            )
        )
        answer = await convert_to_response_dict(http, operation)
        # The SDK's own mapping is slow to say what is not there, and the parser asks for all that could be.
        answer["headers"] = http.raw.headers
        await handle_checksum_body(http, answer, context, operation)
        # S3 may tell of an error with status 200; this turns it into a 500.
        await self.meta.events.emit(
            f"before-parse.{self._service_id}.{operation.name}",
            operation_model=operation,
            response_dict=answer,
            customized_response_dict={},
        )
        parsed = await self._parser.parse(answer, operation.output_shape)
        await self.meta.events.emit(
            f"after-call.{self._service_id}.{operation.name}",
            http_response=http,
            parsed=parsed,
            model=operation,
            context=context,
        )
        if answer["status_code"] < 300:
            return parsed, None
        if answer["status_code"] in _REDIRECTS:
            return parsed, _REDIRECTED
        return parsed, context.get("error_code_override") or parsed.get("Error", {}).get("Code", "")
