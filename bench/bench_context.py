"""What of a large context travels when little of it has changed.

`context.sent_files` and `context.sent_bytes`: what `vmorch image build` sends of a context of
200 MB in 2,000 files of which one has changed. `context.seconds`: how long that build takes, all
of the context being copied by its one step; `context.noop_seconds`: nothing has changed.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bench.figure import Figure
from bench.lab_daemon import lab_daemon, made_bases
from vmorch.cli.imagery import build
from vmorch.cli.progress import reporter
from vmorch.client import Client
from vmorch.model.spec import BuildSpec

FILES = 2000
FILE_BYTES = 100_000
ROUNDS = 5


class CountingClient(Client):
    """Remembers the sizes of the contents that it sent."""

    def __init__(self, socket: Path) -> None:
        super().__init__(socket)
        self.sent: list[int] = []

    def put_blob(self, digest: str, content: BinaryIO) -> None:
        self.sent.append(os.fstat(content.fileno()).st_size)
        super().put_blob(digest, content)


def run() -> Iterator[Figure]:
    with (
        lab_daemon(made_bases("tiny")) as daemon,
        tempfile.TemporaryDirectory(dir=daemon.settings.state_dir) as scratch,
    ):
        context = _context(Path(scratch))
        client = CountingClient(daemon.settings.socket)
        _seconds(client, context)
        client.sent.clear()
        samples = []
        for number in range(ROUNDS):
            (context / "data" / "7").write_bytes(b"%d" % number * FILE_BYTES)
            samples.append(_seconds(client, context))
        yield _figure("context.sent_files", [len(client.sent) / ROUNDS], "files")
        yield _figure("context.sent_bytes", [sum(client.sent) / ROUNDS], "B")
        yield _figure("context.seconds", samples, "s")
        idle = [_seconds(client, context) for _ in range(ROUNDS)]
        yield _figure("context.noop_seconds", idle, "s")


def _context(directory: Path) -> Path:
    (directory / "data").mkdir()
    for number in range(FILES):
        (directory / "data" / f"{number}").write_bytes(os.urandom(FILE_BYTES))
    (directory / "Dockerfile").write_text("FROM tiny\nCOPY data /srv/data\n")
    return directory


def _seconds(client: Client, context: Path) -> float:
    began = time.perf_counter()
    with reporter() as report:
        build(client, BuildSpec(context="."), context, report, target="large", tag="large")
    return time.perf_counter() - began


def _figure(name: str, samples: list[float], unit: str) -> Figure:
    return Figure(name=name, value=statistics.median(samples), unit=unit, samples=samples)
