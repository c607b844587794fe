"""Steady HTTP load on one address, of which every request is accounted for."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Traffic:
    """`answers` counts bodies of answers with status 200, `failures` holds all else, as text."""

    host: str
    port: int
    path: str = "/"
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def count(self) -> int:
        return self.answers.total() + len(self.failures)

    def wait_for(self, requests: int, seconds: float) -> None:
        """Let the load go on until so many requests are done, or raise AssertionError."""
        end = time.monotonic() + seconds
        while self.count < requests:
            assert time.monotonic() < end, f"only {self.count} requests in {seconds:g} s"
            time.sleep(0.1)

    @contextmanager
    def flowing(self, *, kept: int, fresh: int) -> Iterator[Traffic]:
        """`kept` clients keep their connections alive, `fresh` ones make one for each request."""
        kinds = [True] * kept + [False] * fresh
        clients = [threading.Thread(target=self._client, args=(kind,)) for kind in kinds]
        for client in clients:
            client.start()
        try:
            yield self
        finally:
            self._over.set()
            for client in clients:
                client.join()

    def _client(self, keeps: bool) -> None:
        connection = self._connection()
        while not self._over.is_set():
            try:
                status, body = self._ask(connection, keeps)
            except (OSError, http.client.HTTPException) as error:
                self._note_failure(repr(error))
                connection.close()
                connection = self._connection()
                continue
            if status == 200:
                with self._lock:
                    self.answers[body] += 1
            else:
                self._note_failure(f"{status} {body}")
            if not keeps:
                connection.close()

    def _ask(self, connection: http.client.HTTPConnection, keeps: bool) -> tuple[int, str]:
        headers = {"Host": self.host} | ({} if keeps else {"Connection": "close"})
        connection.request("GET", self.path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def _note_failure(self, what: str) -> None:
        with self._lock:
            self.failures.append(f"{time.monotonic():.2f} {what}")
