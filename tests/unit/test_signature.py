"""Our signature is the SDK's own, to the character."""

import time
from datetime import UTC, datetime

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials

from infra.signature import Keys, Scope, signed

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
S3 = Scope("eu-central-1", "s3")
SQS = Scope("us-east-1", "sqs")


AT = datetime(2026, 1, 31, 9, 30, tzinfo=UTC).timestamp()
TIMESTAMP = "20260131T093000Z"


def as_the_sdk_signs(request: AWSRequest, keys: Keys, scope: Scope) -> str:
    """The SDK takes the time from the clock, so this asks it for the steps with a time of ours."""
    kind = S3SigV4Auth if scope.service == "s3" else SigV4Auth
    auth = kind(ReadOnlyCredentials(keys.access_key, keys.secret_key, keys.token), scope.service, scope.region)
    request.context.update(timestamp=TIMESTAMP, client_config=Config(signature_version="s3v4"))
    auth._modify_request_before_signing(request)
    request.headers.replace_header("X-Amz-Date", TIMESTAMP)
    return auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)


@pytest.mark.parametrize("token", [None, "a/session+token=="])
@pytest.mark.parametrize(
    "asked",
    [
        ("GET", "http://127.0.0.1:4566/bucket/sessions/a%20b/%C3%BC~/x%2By", {}, b"", S3),
        ("GET", "https://bucket.s3.eu-central-1.amazonaws.com/k?versionId=a%2Fb%3D", {"If-Match": '"tag"'}, b"", S3),
        ("GET", "https://bucket.s3.amazonaws.com/?list-type=2&prefix=b%2F&encoding-type=url", {}, b"", S3),
        ("GET", "https://bucket.s3.amazonaws.com:443/?uploads&prefix=x", {"Range": "bytes=0-1"}, b"", S3),
        ("GET", "http://[::1]:9000/bucket?b=2&a=1&b-c=0&b=1", {"X-Two": "  two   spaces "}, b"", S3),
        ("PUT", "http://localhost:80/bucket/key", {"Content-Type": "application/json", "If-None-Match": "*"}, b"1", S3),
        ("POST", "https://sqs.us-east-1.amazonaws.com/", {"X-Amz-Target": "AmazonSQS.SendMessage"}, b"{}", SQS),
        ("POST", "https://sqs.us-east-1.amazonaws.com", {"Content-Type": "application/x-amz-json-1.0"}, b"{}", SQS),
    ],
)
def test_our_signature_is_the_one_of_the_sdk(asked, token):
    method, url, headers, body, scope = asked
    keys = Keys(KEYS.access_key, KEYS.secret_key, token)

    sent = signed(method, url, headers, body, keys=keys, scope=scope, at=AT)

    theirs = as_the_sdk_signs(AWSRequest(method=method, url=url, headers=dict(headers), data=body), keys, scope)
    assert sent["Authorization"].rpartition("Signature=")[2] == theirs


def test_every_header_is_signed_and_the_token_goes_along():
    keys = Keys("AKID", "secret", "token")

    sent = signed("GET", "https://host/", {"If-Match": "x"}, b"", keys=keys, scope=SQS)

    listed = sent["Authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    assert listed == "host;if-match;x-amz-date;x-amz-security-token"
    assert sent["X-Amz-Security-Token"] == "token"


def test_a_signature_is_of_now_unless_a_time_is_given():
    before = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    sent = signed("GET", "https://host/", {}, b"", keys=KEYS, scope=S3)
    after = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())

    assert before <= sent["X-Amz-Date"] <= after
    assert sent["Authorization"].startswith(f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{sent['X-Amz-Date'][:8]}/")
