"""Text from inside the sandbox, made safe to show: no control characters, no direction tricks."""

import re

# C0 and C1 controls but tab and newline, the bidirectional overrides of Unicode Technical Report 36, and lone
# surrogates, which no encoding takes.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def without_control_characters(text: str) -> str:
    return _UNSAFE.sub("", text)


def last_line(words: str) -> str:
    """Of what a process has said before its end: a traceback's last line tells most."""
    return words.rpartition("\n")[2]
