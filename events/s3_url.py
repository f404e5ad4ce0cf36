"""What an S3 URL names: compared with a bucket and a key, never fetched."""

import re
from urllib.parse import unquote, urlsplit

# Bucket names may hold ".s3." themselves: the last such label begins the endpoint.
# Amazon S3 User Guide, "Virtual hosting of general purpose buckets".
_AWS_VIRTUAL_HOST = re.compile(r"(?P<bucket>.+)\.s3[.-].+")
_AWS_PATH_HOST = re.compile(r"s3[.-].+")
_NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f-\x9f]")


def keys_named(url: str, bucket: str) -> frozenset[str]:
    """Every key of ``bucket`` that the URL may name: none if it is another bucket's, or no S3 URL at all.

    Understood: ``s3://``, virtual-hosted and path-style URLs on any host; the query (a signature, say) is
    ignored. There may be two readings: ``data.example.com/data/x`` is ``data/x`` or ``x`` of the bucket
    ``data``.
    """
    if _NOT_IN_A_URL.search(url):
        # urlsplit drops some of these silently; the URL that is compared would not be the one that was given.
        return frozenset()
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return frozenset()
    if parts.scheme == "s3":
        return _of_s3_scheme(url, bucket)
    if parts.scheme not in ("http", "https"):
        return frozenset()
    path = unquote(parts.path).removeprefix("/")
    virtual = _AWS_VIRTUAL_HOST.fullmatch(host)
    if virtual is not None:
        return frozenset({path} if virtual["bucket"] == bucket else ())
    by_host = {path} if host.startswith(f"{bucket}.") and not _AWS_PATH_HOST.fullmatch(host) else set()
    by_path = {path.removeprefix(f"{bucket}/")} if path.startswith(f"{bucket}/") else set()
    return frozenset(by_host | by_path)


def _of_s3_scheme(url: str, bucket: str) -> frozenset[str]:
    # No specification says whether the key is percent-encoded here; AWS's own tools do not encode it.
    url_bucket, _, key = url.partition("://")[2].partition("/")
    return frozenset({key, unquote(key)} if url_bucket == bucket else ())
