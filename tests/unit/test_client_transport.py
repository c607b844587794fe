from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmorch.client import Client
from vmorch.errors import DaemonUnreachable, TimedOut, VmorchError

Answer = Callable[[bytes], Client]


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answer]:
    """A daemon that answers any request with the same bytes, then closes."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()

    def serve(answer: bytes) -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(answer)
        connection.close()

    def start(answer: bytes) -> Client:
        threading.Thread(target=serve, args=(answer,), daemon=True).start()
        return Client(tmp_path / "s")

    yield start
    listener.close()


def test_no_socket_and_nobody_behind_it(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnreachable, match="No daemon answers") as caught:
        Client(tmp_path / "none").version()
    assert "vmorch daemon start" in caught.value.hint
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(tmp_path / "s"))
    with pytest.raises(DaemonUnreachable, match="No daemon answers"):
        Client(tmp_path / "s").version()
    with pytest.raises(DaemonUnreachable):
        Client(tmp_path / ("x" * 200)).version()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_closed_door_has_a_hint_of_its_own(tmp_path: Path, answering: Answer) -> None:
    client = answering(b"")
    (tmp_path / "s").chmod(0o600)
    os.seteuid(65534)
    try:
        with pytest.raises(DaemonUnreachable, match="may not talk") as caught:
            client.version()
    finally:
        os.seteuid(0)
    assert "group" in caught.value.hint


def test_a_daemon_that_dies_before_its_answer(answering: Answer) -> None:
    with pytest.raises(DaemonUnreachable, match="went away"):
        answering(b"").version()


def test_a_daemon_that_dies_within_its_answer(answering: Answer) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    lines = b'{"id":1,"time":1,"environment":"a","service":"","instance":"",'
    lines += b'"kind":"k","message":"m"}\n'
    chunk = b"%x\r\n%b\r\n" % (len(lines), lines)
    events = answering(head + chunk).events(follow=True)
    assert next(events).message == "m"
    with pytest.raises(DaemonUnreachable):
        next(events)


def test_a_build_that_ends_without_an_image_is_no_success(answering: Answer) -> None:
    client = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(DaemonUnreachable):
        client.ensure_image("x", lambda _: None)


def test_an_answer_that_is_no_problem_document(answering: Answer) -> None:
    client = answering(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops")
    with pytest.raises(VmorchError, match="502 Bad Gateway"):
        client.version()


def test_silence_is_bounded(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(TimedOut):
            Client(tmp_path / "s", timeout_seconds=0.05).version()


def test_fields_of_a_newer_daemon_are_passed_over(answering: Answer) -> None:
    body = b'{"version":"9","api":"v1","installation":"a","pid":1,"new":true}'
    client = answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert client.version().version == "9"
