"""Logs of the processes on standard error: a JSON object a line, or plain words on a terminal; never a secret."""

import logging
import os
import sys
from typing import TextIO, cast

import structlog
from structlog.typing import Processor


class Unfailing:
    """Standard error as it is now, which nothing can break: on a full disk, a closed pipe or a closed
    stream the line is lost, and counted."""

    def __init__(self) -> None:
        self.lost = 0

    def write(self, text: str) -> int:
        try:
            return sys.stderr.write(text)
        except (OSError, ValueError):  # ValueError: it was closed
            self.lost += 1
            return len(text)

    def flush(self) -> None:
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            self.lost += 1


_of_libraries = logging.StreamHandler(cast(TextIO, Unfailing()))


def configure() -> None:
    """Say how this process logs, and the libraries in it from warnings on; once, at its start."""
    worded = _for_people() if sys.stderr.isatty() else _for_programs()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, *worded],
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, Unfailing())),
        cache_logger_on_first_use=True,
    )
    _of_libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *worded],
        )
    )
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    root.addHandler(_of_libraries)  # the same one, however often it is said


def _for_programs() -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(ensure_ascii=False),
    ]


def _for_people() -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
        structlog.dev.ConsoleRenderer(
            colors="NO_COLOR" not in os.environ,
            exception_formatter=structlog.dev.plain_traceback,  # the others show locals, and so secrets
        ),
    ]
