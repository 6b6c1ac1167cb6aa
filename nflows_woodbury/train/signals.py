"""Signals that end a command: Ctrl-C, TERM and HUP, and the status that shells expect after each."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "handled", "interrupt"]

#: those of them that the system has
SIGNALS = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__)


class Interrupted(BaseException):
    """A signal, or a closed pipe, ended the work; no error, so nothing but the command itself catches it.

    >>> import signal
    >>> Interrupted(signal.SIGTERM).status
    143
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)

    @property
    def status(self) -> int:
        """The exit status, 128 and the signal's number."""
        return 128 + self.number

    def __str__(self) -> str:
        """The name that people know."""
        return {"SIGINT": "Ctrl-C", "SIGPIPE": "a closed pipe"}.get(self.number.name, self.number.name)


def interrupt(number: int, frame: FrameType | None = None) -> None:
    """Raise :class:`Interrupted`; a further signal ends the process as the system does it.

    >>> import signal
    >>> with handled(interrupt):
    ...     signal.raise_signal(signal.SIGINT)
    Traceback (most recent call last):
    nflows_woodbury.train.signals.Interrupted: Ctrl-C
    """
    for other in SIGNALS:
        if signal.getsignal(other) is interrupt:
            signal.signal(other, signal.SIG_DFL)
    raise Interrupted(number)


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Give the signals to ``handler`` and, at the end, back; those that are ignored (``nohup``, ``&``) stay so.

    >>> import signal
    >>> seen = []
    >>> with handled(lambda number, frame: seen.append(number)):
    ...     signal.raise_signal(signal.SIGTERM)
    >>> seen == [signal.SIGTERM]
    True
    """
    taken = {}
    if threading.current_thread() is threading.main_thread():  # Python hands signals to no other
        before = {number: signal.getsignal(number) for number in SIGNALS}
        taken = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in taken:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in taken.items():
            signal.signal(number, old)
