"""Listener: what happens at a server, heard as it happens, over its restarts."""

import contextlib
import http.client
import queue
import threading
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import msgspec

from upturn.api.client import HttpClient, Stream, error_of
from upturn.core.errors import Unavailable, UpturnError

_SILENCE_S = 45.0  # a server says something every 15 s, if only that it is there
_PATIENCE_S = 60.0  # how long a server that answered before is waited for
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0


class Heard(msgspec.Struct, frozen=True):
    """Something that happened: 'run_state' of 'run:k3f9x2'. 'open': what is heard begins here."""

    kind: str
    topic: str = ""
    data: Any = None


class Listener:
    """Events of some topics, in their order, each once. A thread of its own listens.

    Where the connection breaks it asks again, from the last event on: nothing is missed while the
    server is started anew. Topics can be added meanwhile.
    """

    def __init__(self, client: HttpClient, topics: Iterable[str]) -> None:
        self._client = client
        self._topics = dict.fromkeys(topics)
        self._heard: queue.Queue[Heard | UpturnError] = queue.Queue()
        self._stream: Stream | None = None
        self._last = ""  # id of the last event
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen_on, name="upturn-ears", daemon=True)
        self._thread.start()

    def next(self, timeout_s: float) -> Heard | None:
        """The next event; None when none came in time. Raises UpturnError when there will be none:

        Unavailable for a server that stays away, another one when it refuses to tell.
        """
        try:
            heard = self._heard.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(heard, UpturnError):
            raise heard
        return heard

    def add(self, topic: str, *, instead_of: str = "") -> None:
        """Listen to one more, and no more to the other one."""
        with self._lock:
            if topic in self._topics:
                return
            self._topics.pop(instead_of, None)
            self._topics[topic] = None
            if self._stream is not None:
                self._stream.hang_up()

    def close(self) -> None:
        """Stop listening."""
        self._closed.set()
        with self._lock:
            if self._stream is not None:
                self._stream.hang_up()
        self._thread.join(_LONGEST_WAIT_S)

    def _listen_on(self) -> None:
        away_since: float | None = None
        wait_s = _FIRST_WAIT_S
        met = False
        while not self._closed.is_set():
            try:
                stream = self._open()
                met, away_since, wait_s = True, None, _FIRST_WAIT_S
                self._hear(stream)
            except Unavailable as error:
                away_since = away_since or time.monotonic()
                if not met or time.monotonic() - away_since > _PATIENCE_S:
                    self._heard.put(error)
                    return
                self._closed.wait(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            except UpturnError as error:
                self._heard.put(error)
                return

    def _open(self) -> Stream:
        with self._lock:
            topics = list(self._topics)
        path = f"/api/v1/events?topics={quote(','.join(topics), safe=',:*/')}"
        headers = {"accept": "text/event-stream"}
        if self._last:
            headers["last-event-id"] = self._last
        stream = self._client.stream(path, headers, timeout_s=_SILENCE_S)
        if stream.answer.status != http.client.OK:
            with contextlib.closing(stream):
                raise error_of(stream.answer.status, stream.answer.read())
        with self._lock:
            self._stream = stream
            if self._closed.is_set() or topics != list(self._topics):
                stream.hang_up()
        return stream

    def _hear(self, stream: Stream) -> None:
        """Until the stream ends, in whatever way."""
        said: dict[str, str] = {}
        gone = (OSError, ValueError, http.client.HTTPException)
        with contextlib.closing(stream), contextlib.suppress(*gone):
            for line in iter(stream.answer.readline, b""):
                name, _, value = line.decode("utf-8", "replace").rstrip("\n").partition(": ")
                if name:
                    said[name] = value
                    continue
                self._take(said)
                said = {}

    def _take(self, said: dict[str, str]) -> None:
        if "event" not in said:
            return
        told: dict[str, Any] = msgspec.json.decode(said.get("data", "{}"))
        self._heard.put(Heard(said["event"], told.get("topic", ""), told.get("data")))
        self._last = said.get("id", self._last)
