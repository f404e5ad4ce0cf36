"""Logs: readable in a terminal, one JSON object a line elsewhere; to stderr, so that stdout stays the answer's."""

import logging
import sys

import structlog


def configure_logs(*, level: int = logging.INFO) -> None:
    """Once, at start."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if terminal else [structlog.processors.format_exc_info]),
            _terminal_renderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _terminal_renderer() -> structlog.dev.ConsoleRenderer:
    # The default prints local variables with a traceback: keys and the user's data among them.
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
