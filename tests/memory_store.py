"""An object store in memory, for runs by the thousand; held to the contract by test_object_store_contract.py."""

import hashlib
import itertools
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from consumers.errors import ObjectMissing, PreconditionFailed
from consumers.ports import ObjectSummary, OpenUpload, StoredObject


def _right_now():
    return datetime.now(UTC)


class MemoryStore:
    bucket = "memory"

    def __init__(self, *, now=_right_now):
        self.objects = {}
        self.open_uploads = {}
        self._now = now
        self._numbers = itertools.count(1)

    async def get(self, key, *, max_bytes):
        if key not in self.objects:
            raise ObjectMissing(key)
        body, at = self.objects[key]
        return StoredObject(body[: max_bytes + 1], _etag(body), at, self._now() - at)

    @asynccontextmanager
    async def open(self, key, *, version_id=None):
        if key not in self.objects or version_id is not None:
            raise ObjectMissing(key)
        yield _Stream(*self.objects[key])

    async def put(self, key, body, *, media_type):
        self.objects[key] = (body, self._now())
        return _etag(body)

    async def put_new(self, key, body, *, media_type):
        if key in self.objects:
            raise PreconditionFailed(key)
        return await self.put(key, body, media_type=media_type)

    async def put_over(self, key, body, *, etag, media_type):
        if key not in self.objects or _etag(self.objects[key][0]) != etag:
            raise PreconditionFailed(key)
        return await self.put(key, body, media_type=media_type)

    async def upload(self, key, chunks, *, media_type):
        upload = self.begin(key)
        try:
            body = b"".join([chunk async for chunk in chunks])
            await self.put(key, body, media_type=media_type)
        finally:
            await self.abort_upload(upload)
        return len(body)

    def begin(self, key):
        """Begin an upload, as a worker does that is killed then."""
        upload = OpenUpload(key, f"upload-{next(self._numbers)}", self._now())
        self.open_uploads[upload.upload_id] = upload
        return upload

    async def uploads(self, prefix):
        for upload in list(self.open_uploads.values()):
            if upload.key.startswith(prefix):
                yield upload

    async def abort_upload(self, upload):
        return self.open_uploads.pop(upload.upload_id, None) is not None

    async def abort_uploads(self, prefix):
        return sum([await self.abort_upload(upload) async for upload in self.uploads(prefix)])

    async def link(self, key, *, name, media_type, seconds):
        return f"https://{self.bucket}.memory/{key}?seconds={seconds}"

    async def delete(self, keys):
        for key in keys:
            self.objects.pop(key, None)

    async def list(self, prefix):
        for key, (body, at) in sorted(self.objects.items()):
            if key.startswith(prefix):
                yield ObjectSummary(key, len(body), _etag(body), at)


class _Stream:
    version_id = None
    crc32 = None

    def __init__(self, body, at):
        self._body = body
        self.size = len(body)
        self.etag = _etag(body)
        self.last_modified = at

    async def __aiter__(self):
        yield self._body


def _etag(body):
    return f'"{hashlib.md5(body).hexdigest()}"'
