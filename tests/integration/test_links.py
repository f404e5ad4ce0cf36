"""Links: anybody who has one fetches one object under one name for a while, and nothing else.

moto takes any link; LocalStack checks signature and age as S3 does, so refusals are tried there.
"""

import asyncio
import urllib.request
from datetime import UTC, datetime
from urllib.error import HTTPError
from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

import pytest
import pytest_asyncio
from kit import until
from pydantic import SecretStr

from infra.clients import Clients
from infra.s3_store import S3ObjectStore
from infra.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = b"city,total\r\nOslo,5\r\n"
KEY = "sessions/session-1/jobs/job-00001/result/1/result.csv"
NAME = 'Umsätze "2025".csv'
MEDIA_TYPE = "text/csv; charset=utf-8"


def settings_of(endpoint_url, **changes):
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": SecretStr("test")}
    return Settings(_env_file=None, aws_endpoint_url=endpoint_url, **keys, **changes)


async def store_on(clients):
    bucket = f"links-{uuid4().hex}"
    await clients.s3.create_bucket(Bucket=bucket)
    store = S3ObjectStore(clients.s3, bucket, links=clients.links)
    await store.put(KEY, BODY, media_type="application/octet-stream")
    return store


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def store(endpoint_url):
    async with Clients(settings_of(endpoint_url)) as clients:
        yield await store_on(clients)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict(localstack_endpoint):
    """A store whose endpoint refuses what S3 would."""
    async with Clients(settings_of(localstack_endpoint)) as clients:
        yield await store_on(clients)


async def link(store, key=KEY, *, name=NAME, seconds=60):
    return await store.link(key, name=name, media_type=MEDIA_TYPE, seconds=seconds)


async def fetch(url):
    """Status, headers and body, as whoever has nothing but the URL gets them."""

    def get():
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return reply.status, reply.headers, reply.read()
        except HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    return await asyncio.to_thread(get)


async def test_a_link_fetches_the_object_without_keys_under_its_name(store):
    status, headers, body = await fetch(await link(store))

    assert (status, body) == (200, BODY)
    assert headers["Content-Disposition"] == (
        "attachment; filename=\"Ums_tze _2025_.csv\"; filename*=UTF-8''Ums%C3%A4tze%20_2025_.csv"
    )
    assert headers["Content-Type"] == MEDIA_TYPE


@pytest.mark.parametrize(
    "name", ['a"\r\nX-Evil: 1.csv', "../../x.csv", "売上 \u202e.csv", "", "%22.csv", "a;b=c,d.csv"]
)
async def test_no_name_breaks_its_link_or_adds_a_header(store, name):
    status, headers, body = await fetch(await link(store, name=name))

    assert (status, body) == (200, BODY)
    assert headers["Content-Disposition"].startswith('attachment; filename="')
    assert "X-Evil" not in headers


async def test_a_link_is_signed_for_so_many_seconds_and_for_its_host(store):
    url = urlsplit(await link(store, seconds=604_800))
    signed = {name: value for name, (value,) in parse_qs(url.query).items()}

    assert signed["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert (signed["X-Amz-Expires"], signed["X-Amz-SignedHeaders"]) == ("604800", "host")
    made_at = datetime.strptime(signed["X-Amz-Date"], "%Y%m%dT%H%M%S%z")
    assert abs((datetime.now(UTC) - made_at).total_seconds()) < 60


async def test_a_link_to_what_is_gone_finds_nothing(store):
    key = f"{KEY}-gone"
    await store.put(key, BODY, media_type=MEDIA_TYPE)
    url = await link(store, key)
    before, _, _ = await fetch(url)
    await store.delete([key])
    after, _, body = await fetch(url)

    assert before == 200
    assert after in (403, 404)  # moto: 403
    assert BODY not in body


async def test_a_link_names_the_endpoint_that_browsers_reach(endpoint_url, store):
    settings = settings_of("http://not-reached.invalid:4566", public_endpoint_url=endpoint_url)
    async with Clients(settings) as clients:
        elsewhere = S3ObjectStore(clients.s3, store.bucket, links=clients.links)
        url = await link(elsewhere)

    assert url.startswith(f"{endpoint_url}/{store.bucket}/{KEY}?")
    assert (await fetch(url))[0] == 200


async def test_an_endpoint_set_to_nothing_is_the_workers_own(endpoint_url):
    settings = settings_of(endpoint_url, public_endpoint_url="")

    assert settings.links_endpoint_url == endpoint_url


# ---------------------------------------------------------------- refusals


async def test_a_link_ends_after_its_seconds(strict):
    url = await link(strict, seconds=1)

    async def refused():
        return (await fetch(url))[0] == 403

    assert (await fetch(await link(strict)))[0] == 200
    await until(refused)


@pytest.mark.parametrize(
    ("signed", "changed"),
    [
        (f"/{KEY}", "/sessions/session-1/jobs/job-00001/result/1/other.csv"),
        ("2025", "2026"),
        (quote(MEDIA_TYPE, safe=""), quote("text/html", safe="")),
        ("X-Amz-Expires=60", "X-Amz-Expires=604800"),
    ],
    ids=["key", "name", "media type", "seconds"],
)
async def test_whoever_changes_a_link_is_refused(strict, signed, changed):
    await strict.put("sessions/session-1/jobs/job-00001/result/1/other.csv", BODY, media_type=MEDIA_TYPE)
    url = await link(strict)
    forged = url.replace(signed, changed)
    status, _, body = await fetch(forged)

    assert forged != url
    assert status == 403
    assert BODY not in body


async def test_a_link_only_reads(strict):
    url = await link(strict)
    for method in ("PUT", "DELETE"):
        status, _, _ = await fetch(urllib.request.Request(url, data=b"theirs", method=method))
        assert status == 403

    assert (await strict.get(KEY, max_bytes=100)).body == BODY
