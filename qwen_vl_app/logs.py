"""What the log may say: codes, places in the code and kinds of errors. Never a question, an answer or a file name.

An exception's message may quote what a person wrote, whoever raised it; so every log record of this process loses it, our
own as well as Streamlit's or a library's, before any handler sees it. Knows logging; does not know what is logged where.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import Any

from qwen_vl_app.own_files import begin_file, make_folder

LOG_NAME = "app.log"
LOG_BYTES = 2**20
LOG_FILES = 4
OUR_LOGGERS = "qwen_vl_app"
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_MOST_FRAMES = 60
_guarding = threading.Lock()


def where(error: BaseException) -> str:
    """Return what an error is and the way through the code to it, causes first; not a word of its message."""
    told: list[str] = []
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        told.append("\n".join([*_frames(each.__traceback__), _name_of(each)]))
        before = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        inside = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        waiting += [other for other in (before, *inside) if other is not None]
    return "\n".join(reversed(told))


def keep_words_out() -> Callable[[], None]:
    """Let no log record of this process carry an exception's message, from now on; return what ends this.

    Errors that no one caught go through the log as well, instead of being printed as they are. A second call is free.
    """
    with _guarding:
        make = logging.getLogRecordFactory()
        if getattr(make, "keeps_words_out", False):
            return lambda: None
        hooks = sys.excepthook, threading.excepthook
        logging.setLogRecordFactory(_guarded(make))
        sys.excepthook, threading.excepthook = _tell_uncaught, _tell_uncaught_in_thread

    def end() -> None:
        logging.setLogRecordFactory(make)
        sys.excepthook, threading.excepthook = hooks

    return end


def write_to(folder: Path) -> Callable[[], None]:
    """Write a log into a folder, in a few files that take turns; return what ends this.

    Of strangers only who they are, where, and the kind of error is written: their sentences may hold anything. Raises OSError.
    """
    make_folder(folder)
    handler = _QuietHandler(
        folder / LOG_NAME,
        maxBytes=LOG_BYTES,
        backupCount=LOG_FILES - 1,
        encoding="utf-8",
        errors="backslashreplace",
        delay=True,
    )
    handler.setFormatter(_OwnWords(_FORMAT))
    handler.addFilter(_is_worth_a_line)
    root, own = logging.getLogger(), logging.getLogger(OUR_LOGGERS)
    level = own.level
    root.addHandler(handler)
    own.setLevel(min(level or logging.INFO, logging.INFO))

    def end() -> None:
        root.removeHandler(handler)
        own.setLevel(level)
        handler.close()

    return end


def _guarded(make: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    def record(*given: Any, **more: Any) -> logging.LogRecord:
        made = make(*given, **more)
        error = made.exc_info[1] if made.exc_info else None
        if error is not None:
            # Formatters take this text for an exception that was formatted before; what it said is gone for good.
            made.exc_info, made.exc_text = None, where(error)
        if isinstance(made.msg, BaseException):
            made.msg = _name_of(made.msg)
        if isinstance(made.args, tuple):
            made.args = tuple(_name_of(each) if isinstance(each, BaseException) else each for each in made.args)
        return made

    record.keeps_words_out = True  # type: ignore[attr-defined]
    return record


class _QuietHandler(RotatingFileHandler):
    def _open(self) -> TextIOWrapper:
        begin_file(Path(self.baseFilename))
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Do without the line: on a full disk, the usual way would print it with whatever it was made of."""


class _OwnWords(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        if not _is_ours(record):
            record = logging.makeLogRecord(record.__dict__)
            record.msg, record.args, record.stack_info = f"{Path(record.pathname).name}:{record.lineno}", (), None
        return super().format(record)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    return _is_ours(record) or record.levelno >= logging.WARNING


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name == OUR_LOGGERS or record.name.startswith(f"{OUR_LOGGERS}.")


def _frames(trace: TracebackType | None) -> list[str]:
    lines: list[str] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append(f"  {Path(code.co_filename).name}:{trace.tb_lineno} in {code.co_name}")
        trace = trace.tb_next
    if len(lines) > _MOST_FRAMES:
        left_out = len(lines) - _MOST_FRAMES
        lines = [*lines[: _MOST_FRAMES // 2], f"  ... {left_out} more", *lines[-_MOST_FRAMES // 2 :]]
    return lines


def _name_of(error: BaseException) -> str:
    """Return an error's kind, and our own errors' code."""
    code = getattr(error, "code", None)
    name = type(error).__name__
    return f"{name} {code}" if isinstance(code, str) and type(error).__module__.startswith(OUR_LOGGERS) else name


def _tell_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger(OUR_LOGGERS).critical("an error that nobody caught", exc_info=(kind, error, trace))


def _tell_uncaught_in_thread(about: threading.ExceptHookArgs) -> None:
    if about.exc_value is not None and not isinstance(about.exc_value, SystemExit):
        _tell_uncaught(about.exc_type, about.exc_value, about.exc_traceback)
