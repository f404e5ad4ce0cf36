"""What each tier is expected to do about each class: stop it, unless it is listed here with a reason.

The list holds both ways: a class that is listed and does not get through fails its test as well.
"""

NOT_STOPPED: dict[str, dict[int, str]] = {
    "gvisor": {},
    "namespaces": {},
    "landlock": {},
    "process": {},
}
_EVERYWHERE = {75: "a made-up number looks like a computed one"}


def not_stopped(tier: str, number: int) -> str:
    """Why this tier does not stop it; empty where it does."""
    return _EVERYWHERE.get(number) or NOT_STOPPED[tier].get(number, "")
