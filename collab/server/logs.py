"""Logging: structlog over the standard library, to standard error, for people or for machines.

Everything that logs, uvicorn included, goes through one handler, which takes tokens out, keeps an event on one line and
writes few lines a second about one cause. Set up once by `collab serve`; a program that embeds collab keeps its own
set-up.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, TextIO

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, Processor, WrappedLogger

MAX_VALUE_CHARS = 2000
"""A longer value is cut: a log line is no place for what a client made up."""
LINES_PER_SECOND = 10
"""Of one cause: what is logged for each bad frame or request would else let a stranger fill the disk (attack K06)."""
_MAX_CAUSES = 1000
"""That are remembered. Events are fixed texts of ours and of libraries; some library may make them up."""

# uvicorn logs the whole URL of a WebSocket, query and all, whatever its access log is set to.
_QUERY = re.compile(r"(?<=[^\s?\"'])\?[^\s\"']+")
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]*\.?[\w-]*")
# Links and tickets are known by their beginning, wherever they stand.
_PASS = re.compile(r"\bc[lt]_[\w-]{20,}")
_BEARER = re.compile(r"(?i)\bbearer\s+\S+")
# Opaque ones look like nothing, so they are known by where they stand: a subprotocol, a parameter, a cookie header.
_OFFERED = re.compile(r"\bcollab\.(token|ticket)\.[^\s,\"'\\]+")
_PARAMETER = re.compile(r"(?i)\b(token|ticket)=[^\s&\"'\\]+")
_COOKIE = re.compile(r"(?i)\b((?:set-)?cookie): .+")
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
    handler.addFilter(Sparing())
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


class Sparing(logging.Filter):
    """Lets through at most `LINES_PER_SECOND` in any second about one cause: one logger's event of one level.

    The next line that passes says in ``left_out`` how many before it did not.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._passed: dict[tuple[str, int, str], deque[float]] = {}
        self._left_out: dict[tuple[str, int, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether ``record`` is written."""
        # structlog passes its whole event as the message; others a text with places for arguments.
        message = record.msg
        event = str(message.get("event") if isinstance(message, dict) else message)[:MAX_VALUE_CHARS]
        cause, now = (record.name, record.levelno, event), self._clock()
        passed = self._passed.get(cause)
        if passed is None:
            if len(self._passed) >= _MAX_CAUSES:
                self._passed.clear()
                self._left_out.clear()
            passed = self._passed[cause] = deque(maxlen=LINES_PER_SECOND)
        if len(passed) == LINES_PER_SECOND and now - passed[0] < 1.0:
            self._left_out[cause] = self._left_out.get(cause, 0) + 1
            return False
        passed.append(now)
        left_out = self._left_out.pop(cause, 0)
        if left_out and isinstance(message, dict):
            record.msg = {**message, "left_out": left_out}
        elif left_out:
            record.left_out = left_out
        return True


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
    text = _COOKIE.sub(r"\1: ...", _BEARER.sub("Bearer ...", _PASS.sub("<pass>", _JWT.sub("<token>", text))))
    return _PARAMETER.sub(r"\1=...", _OFFERED.sub(r"collab.\1....", text))


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
