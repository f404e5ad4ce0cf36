"""Minutes, as they are typed or set: how long ago, within what a clock can count."""

from datetime import timedelta

from infra.cli.endings import wrong_usage

# Far beyond the days that anything lives.
MAX_MINUTES = 365 * 24 * 60


def as_time(minutes: int, name: str) -> timedelta:
    """Raises Ending if that is more than a year; ``name`` is the option or the variable that says so."""
    if minutes > MAX_MINUTES:
        raise wrong_usage(f"{name} is {minutes:,} minutes; a year has {MAX_MINUTES:,}, and nothing lives that long.")
    return timedelta(minutes=minutes)
