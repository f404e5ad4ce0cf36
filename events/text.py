"""Text from outside, made fit for where it goes: a queue's message, or one line for a person."""

import re

# SQS takes the characters of XML 1.0 only: SendMessage, "MessageBody". JSON escapes the other ones that it refuses.
_UNSENDABLE = re.compile("[\ud800-\udfff\ufffe\uffff]")
_NOT_ON_ONE_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_REPLACEMENT = "\ufffd"

MAX_LINE_CHARS = 1000


def sendable(text: str) -> str:
    """The text, with what no queue takes replaced by U+FFFD: lone surrogates and noncharacters."""
    return _UNSENDABLE.sub(_REPLACEMENT, text)


def one_line(text: str) -> str:
    """One line of at most 1,000 characters, without control characters."""
    line = _NOT_ON_ONE_LINE.sub(_REPLACEMENT, text[: MAX_LINE_CHARS + 1])
    return line if len(line) <= MAX_LINE_CHARS else f"{line[: MAX_LINE_CHARS - 1]}…"
