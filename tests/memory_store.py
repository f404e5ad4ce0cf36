"""An object store in memory, for runs by the thousand; held to the contract by test_object_store_contract.py."""

import hashlib
from datetime import UTC, datetime

from consumers.errors import ObjectMissing, PreconditionFailed
from consumers.ports import ObjectSummary, StoredObject


class MemoryStore:
    bucket = "memory"

    def __init__(self):
        self.objects = {}

    async def get(self, key, *, max_bytes):
        if key not in self.objects:
            raise ObjectMissing(key)
        body, at = self.objects[key]
        return StoredObject(body[: max_bytes + 1], _etag(body), at)

    async def put(self, key, body, *, media_type):
        self.objects[key] = (body, datetime.now(UTC))
        return _etag(body)

    async def put_new(self, key, body, *, media_type):
        if key in self.objects:
            raise PreconditionFailed(key)
        return await self.put(key, body, media_type=media_type)

    async def put_over(self, key, body, *, etag, media_type):
        if key not in self.objects or _etag(self.objects[key][0]) != etag:
            raise PreconditionFailed(key)
        return await self.put(key, body, media_type=media_type)

    async def delete(self, keys):
        for key in keys:
            self.objects.pop(key, None)

    async def list(self, prefix):
        for key, (body, at) in sorted(self.objects.items()):
            if key.startswith(prefix):
                yield ObjectSummary(key, len(body), _etag(body), at)


def _etag(body):
    return f'"{hashlib.md5(body).hexdigest()}"'
