"""Ctrl-C and SIGTERM during training: finish the step, save, leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether a signal has asked training to stop, and which."""

    number: int = 0
    """Of the signal; 0: none has."""


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request; a second one has its usual effect.

    Outside the main thread no handler can be set, and no signal is noticed.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        request.number = number
        restore()

    for number in previous:
        signal.signal(number, handle)
    try:
        yield request
    finally:
        restore()
