"""Logging: structlog over the standard library, to standard error, for people or for machines.

Everything that logs, uvicorn included, goes through one handler, which takes tokens out and keeps an event on one
line. Set up once by `collab serve`; a program that embeds collab keeps its own set-up.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any, Literal, TextIO

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

MAX_VALUE_CHARS = 2000
"""A longer value is cut: a log line is no place for what a client made up."""

# uvicorn logs the whole URL of a WebSocket, query and all, whatever its access log is set to.
_QUERY = re.compile(r"(?<=[^\s?\"'])\?[^\s\"']+")
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]*\.?[\w-]*")
_BEARER = re.compile(r"(?i)\bbearer\s+\S+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_URL_LOGGERS = ("uvicorn", "websockets")


def set_up(level: str = "info", form: Literal["console", "json"] = "console", *, stream: TextIO | None = None) -> None:
    """Send every logger to ``stream`` (default: standard error), replacing what was set up before."""
    out = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared[:-1],
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                clean,
                _renderer(form, colors=out.isatty()),
            ],
        )
    )
    _take_over(handler, level.upper())


def clean(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Take tokens and control characters out of every text, and queries out of uvicorn's URLs."""
    event.pop("color_message", None)  # uvicorn says everything a second time, in colours
    urls = str(event.get("logger", "")).startswith(_URL_LOGGERS)
    return {key: value if key == "exception" else _cleaned(value, urls=urls) for key, value in event.items()} | (
        {"exception": _without_tokens(event["exception"])} if "exception" in event else {}
    )


def _cleaned(value: Any, *, urls: bool) -> Any:
    if isinstance(value, str):
        if urls:
            value = _QUERY.sub("?...", value)
        value = _CONTROL.sub(" ", _without_tokens(value))
        return value if len(value) <= MAX_VALUE_CHARS else f"{value[:MAX_VALUE_CHARS]}..."
    if isinstance(value, (int, float, bool, type(None))):
        return value
    return _cleaned(repr(value), urls=urls)


def _without_tokens(text: str) -> str:
    return _BEARER.sub("Bearer ...", _JWT.sub("<token>", text))


def _renderer(form: Literal["console", "json"], *, colors: bool) -> Processor:
    if form == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


def _take_over(handler: logging.Handler, level: str) -> None:
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    # One line per keystroke-sized frame is no use to anybody, not even when debugging.
    for name in ("websockets", "httpcore", "httpx", "aiosqlite", "sqlalchemy.engine", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
