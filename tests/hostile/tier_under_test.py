from contextlib import asynccontextmanager
from consumers.sandbox.bwrap import BwrapSandbox, SandboxUnavailable as Unavailable
from plain_sandbox import PlainSandbox
TIERS = ("process", "namespaces")
@asynccontextmanager
async def open_tier(name, folder):
    yield {"process": PlainSandbox, "namespaces": BwrapSandbox}[name]()
