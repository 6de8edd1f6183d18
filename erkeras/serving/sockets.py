"""Sockets whose calls together end in time, whatever drips, and that take no more bytes than allowed."""

from __future__ import annotations

import math
import queue
import socket
import ssl
import threading
import time
from typing import Any


class TooLargeError(Exception):
    """Signals an answer that is too large. It is no ValueError, which http.client would take for its own."""


class TimedSocket(socket.socket):
    """Applies one timeout to all calls of a socket together. A byte a second does not extend it.

    It takes no more than `allowed` bytes, because http.client reads a chunk of the size -1 to its end.
    """

    _end = math.inf
    allowed = math.inf

    def settimeout(self, value: float | None) -> None:
        self._end = math.inf if value is None else time.monotonic() + value
        super().settimeout(value)

    def gettimeout(self) -> float | None:
        return None if self._end == math.inf else max(self._end - time.monotonic(), 1e-3)

    def _limit(self) -> None:
        if self._end != math.inf:
            left = self._end - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            super().settimeout(left)

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        self._limit()
        count = super().recv_into(*arguments, **options)
        self.allowed -= count
        if self.allowed < 0:
            raise TooLargeError
        return count

    def send(self, *arguments: Any, **options: Any) -> int:
        self._limit()
        return super().send(*arguments, **options)

    def sendall(self, *arguments: Any, **options: Any) -> None:
        self._limit()
        super().sendall(*arguments, **options)


class EncryptedSocket(TimedSocket, ssl.SSLSocket):
    """Does the same with TLS."""


def addresses(host: str, port: int, seconds: float) -> list[Any]:
    """Looks a name up within some seconds, which the system's resolver takes no limit for."""
    found: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def look() -> None:
        try:
            found.put(socket.getaddrinfo(host.strip("[]"), port, 0, socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.put(error if isinstance(error, OSError) else socket.gaierror(str(error)))

    threading.Thread(target=look, daemon=True).start()
    try:
        answer = found.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError("timed out") from None
    if isinstance(answer, OSError):
        raise answer
    return answer
