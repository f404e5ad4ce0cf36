"""What an S3 URL names, in every style, and what it does not."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events.s3_url import keys_named

BUCKET = "dropchute-temp"
KEY = "sessions/sess-0001/jobs/job-00000001/files/0"
AWKWARD = "sessions/sess-0001/Q1 & Q2/a+b%2F €.csv"
ENCODED = "sessions/sess-0001/Q1%20%26%20Q2/a%2Bb%252F%20%E2%82%AC.csv"

STYLES = [
    "s3://dropchute-temp/{key}",
    "S3://dropchute-temp/{key}",
    "https://dropchute-temp.s3.amazonaws.com/{key}",
    "https://dropchute-temp.s3.eu-central-1.amazonaws.com/{key}",
    "https://dropchute-temp.s3-eu-west-1.amazonaws.com/{key}",
    "https://dropchute-temp.s3.dualstack.eu-west-1.amazonaws.com/{key}",
    "https://dropchute-temp.s3-accelerate.amazonaws.com/{key}",
    "https://dropchute-temp.s3.cn-north-1.amazonaws.com.cn/{key}",
    "HTTPS://Dropchute-Temp.S3.amazonaws.com/{key}",
    "https://s3.amazonaws.com/dropchute-temp/{key}",
    "https://s3.eu-central-1.amazonaws.com/dropchute-temp/{key}",
    "https://s3-eu-west-1.amazonaws.com/dropchute-temp/{key}",
    "http://127.0.0.1:4566/dropchute-temp/{key}",
    "http://localhost:5000/dropchute-temp/{key}",
    "http://[::1]:5000/dropchute-temp/{key}",
    "http://dropchute-temp.s3.localhost.localstack.cloud:4566/{key}",
    "https://dropchute-temp.minio.example.com/{key}",
    "https://minio.example.com/dropchute-temp/{key}",
]


@pytest.mark.parametrize("style", STYLES)
def test_every_style_names_the_key(style: str):
    assert KEY in keys_named(style.format(key=KEY), BUCKET)


@pytest.mark.parametrize("style", STYLES)
def test_an_encoded_key_is_decoded_once(style: str):
    assert AWKWARD in keys_named(style.format(key=ENCODED), BUCKET)


@pytest.mark.parametrize("tail", ["?versionId=1&X-Amz-Signature=0", "#x", "?a=/b"])
def test_a_signature_is_no_part_of_the_key(tail: str):
    assert keys_named(f"https://dropchute-temp.s3.amazonaws.com/{KEY}{tail}", BUCKET) == {KEY}


def test_a_plus_in_a_path_is_a_plus():
    assert keys_named("https://s3.amazonaws.com/dropchute-temp/a+b", BUCKET) == {"a+b"}


def test_the_s3_scheme_may_also_carry_the_key_as_it_is():
    assert keys_named("s3://dropchute-temp/100%25?.csv#1", BUCKET) == {"100%25?.csv#1", "100%?.csv#1"}


@pytest.mark.parametrize(
    ("url", "readings"),
    [
        ("https://data.example.com/data/x", {"data/x", "x"}),
        ("https://data.example.com/x", {"x"}),
        ("https://data.s3.example.com/data/x", {"data/x"}),
    ],
)
def test_a_host_that_begins_with_the_bucket_may_have_two_readings(url: str, readings: set[str]):
    assert keys_named(url, "data") == readings


def test_the_last_endpoint_label_ends_the_bucket():
    url = "https://my.s3.archive.s3.us-east-1.amazonaws.com/x"

    assert keys_named(url, "my.s3.archive") == {"x"}
    assert keys_named(url, "my") == frozenset()


@pytest.mark.parametrize(
    "url",
    [
        "s3://other-bucket/{key}",
        "s3://user@dropchute-temp/{key}",
        "s3://dropchute-temp:80/{key}",
        "s3:///dropchute-temp/{key}",
        "s3:dropchute-temp/{key}",
        "s3:xxdropchute-temp/{key}",
        "https://other.s3.amazonaws.com/{key}",
        "https://other.s3.amazonaws.com/dropchute-temp/{key}",
        "https://other.s3.localhost.localstack.cloud:4566/dropchute-temp/{key}",
        "https://dropchute-temp.other.s3.amazonaws.com/{key}",
        "https://dropchute-temp.s3.s3.amazonaws.com/{key}",
        "https://my-dropchute-temp.s3.amazonaws.com/{key}",
        "https://dropchute-temp.s3.amazonaws.com@evil.example/{key}",
        "https://evil.example#.dropchute-temp.s3.amazonaws.com/{key}",
        "https://s3.amazonaws.com/other/{key}",
        "https://s3.amazonaws.com//dropchute-temp/{key}",
        "https://s3.amazonaws.com/dropchute-temp",
        "https://dropchute-tempx.example.com/{key}",
        "http://127.0.0.1/{key}",
        "file:///dropchute-temp/{key}",
        "ftp://dropchute-temp.example.com/{key}",
        "gs://dropchute-temp/{key}",
        "javascript:alert(1)",
        "//dropchute-temp.s3.amazonaws.com/{key}",
        "dropchute-temp/{key}",
        "{key}",
        "",
        "https://[dropchute-temp/{key}",
        "s3://drop\nchute-temp/{key}",
        "ht\ttps://dropchute-temp.s3.amazonaws.com/{key}",
        " s3://dropchute-temp/{key}",
        "s3://dropchute-temp/{key}\n",
        "s3://dropchute-temp/{key}\0",
    ],
)
def test_a_url_of_another_bucket_names_nothing_of_ours(url: str):
    assert keys_named(url.format(key=KEY), BUCKET) == frozenset()


@pytest.mark.parametrize(
    "url",
    [
        "s3://dropchute-temp/{key}0",
        "s3://dropchute-temp/",
        "s3://dropchute-temp",
        "s3://dropchute-temp//{key}",
        "s3://dropchute-temp/x/../{key}",
        "https://dropchute-temp.s3.amazonaws.com/x/../{key}",
        "https://dropchute-temp.s3.amazonaws.com/dropchute-temp/{key}",
        "https://dropchute-temp.s3.amazonaws.com/?{key}",
        "https://s3.amazonaws.com/dropchute-temp/sessions/sess-0002/files/0",
        "http://127.0.0.1:4566/dropchute-temp/",
    ],
)
def test_a_url_of_another_key_names_that_one(url: str):
    named = keys_named(url.format(key=KEY), BUCKET)

    assert named
    assert KEY not in named


@settings(deadline=None)
@given(st.text() | st.text().map("https://{}".format) | st.text().map(f"s3://{BUCKET}/{{}}".format))
@example("https://[")
@example("https://dropchute-temp.s3.\u2100/")
@example("https://x:99999999/")
def test_any_text_names_something_or_nothing(url: str):
    assert all(isinstance(key, str) for key in keys_named(url, BUCKET))
