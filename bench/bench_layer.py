"""How fast an image is when little has changed, and that the size below does not matter.

`layer.seconds`: `vmorch image build` as a user runs it, one file of 100 changed, on a base with
packages. `layer.ratio`: the daemon's part of that against the bare work by hand (hash, overlay,
mount, copy, unmount). `layer.growth`: the same build on a base of 4 GB against one of 0.5 GB.
`layer.depth`: on a chain of 100 layers against a short one. `noop.seconds`: nothing has changed.
`packages.ratio`: a step that installs packages against the same `apt-get install` in a chroot
(a step costs about 0.3 s beside what it installs: a few small packages give a worse ratio).
`layer.agreement`: 1 when two builds without the cache come to the same files.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.bench_cli import install_wheel
from bench.figure import Figure, compared
from bench.lab_daemon import LabDaemon, lab_daemon, made_bases
from bench.raw_layer import chroot_of, install_in_chroot, raw_layer
from vmorch.context import read_context

ROUNDS = 10
FILES = 100
PACKAGES = "python3-flask python3-pip"
GROWN_BYTES = 3_600_000_000
DEPTH = 100

WITH_PACKAGES = f"""FROM debian:12
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends {PACKAGES}
"""
DOWNLOADED = f"""FROM debian:12
RUN apt-get update -qq && apt-get install -y -qq -d --no-install-recommends {PACKAGES}
"""
INSTALL = f"apt-get install -y -qq --no-install-recommends {PACKAGES}"
GROWN = f"FROM packages\nRUN head -c {GROWN_BYTES} /dev/urandom > /srv/large\n"
CHAIN = "FROM packages\n" + "".join(f"RUN echo {n} > /srv/{n}\n" for n in range(DEPTH))

_numbers = itertools.count()


def run() -> Iterator[Figure]:
    with ExitStack() as stack:
        daemon = stack.enter_context(lab_daemon(made_bases("debian-12")))
        scratch = Path(
            stack.enter_context(tempfile.TemporaryDirectory(dir=daemon.settings.state_dir))
        )
        builder = Builder(daemon, scratch)
        builder.image("packages", WITH_PACKAGES)
        yield from _small_changes(builder, install_wheel(scratch / "wheel"))
        yield _packages(builder, scratch)
        builder.image("grown", GROWN)
        yield compared("layer.growth", builder.on("grown"), builder.on("packages"), rounds=ROUNDS)
        builder.image("chain", CHAIN)
        yield compared("layer.depth", builder.on("chain"), builder.on("packages"), rounds=ROUNDS)
        yield _agreement(builder)


class Builder:
    """Builds through the API, with a context of 100 files of which one changes each time."""

    def __init__(self, daemon: LabDaemon, scratch: Path) -> None:
        self.daemon = daemon
        self.context = scratch / "context"
        self.scratch = scratch
        (self.context / "app").mkdir(parents=True)
        for number in range(FILES):
            (self.context / f"app/{number}.py").write_text(f"print({number})\n" * 100)

    def image(self, name: str, dockerfile: str, **more: Any) -> float:
        """The seconds from the first request to the answer."""
        began = time.perf_counter()
        context = read_context(self.context)
        client = self.daemon.client
        for digest in client.missing_blobs(list(context.files)):
            with context.files[digest].open("rb") as content:
                client.put_blob(digest, content)
        request = {
            "name": name,
            "dockerfile": dockerfile,
            "dockerfile_name": "Dockerfile",
            "context": [asdict(entry) for entry in context.entries],
            **more,
        }
        client.build(request, lambda line: None)
        return time.perf_counter() - began

    def change(self) -> Path:
        file = self.context / "app/7.py"
        file.write_text(f"print('change {next(_numbers)}')\n" * 100)
        return file

    def on(self, base: str) -> Callable[[], float]:
        """Measures a build of the changed files on an image."""

        def measure() -> float:
            self.change()
            return self.image("changed", f"FROM {base}\nCOPY app /srv/app\n")

        measure()
        return measure

    def layer(self, name: str) -> Path:
        top = self.daemon.client.image(name)["layers"][-1]["digest"].removeprefix("sha256:")
        return self.daemon.settings.images_dir / "layers" / f"{top}.qcow2"


def _small_changes(builder: Builder, site: Path) -> Iterator[Figure]:
    (builder.context / "Dockerfile").write_text("FROM packages\nCOPY app /srv/app\n")

    def command() -> float:
        return _seconds(builder, site)

    command()
    samples = []
    for _ in range(ROUNDS):
        builder.change()
        samples.append(command())
    yield _plain("layer.seconds", samples)
    yield _plain("noop.seconds", [command() for _ in range(ROUNDS)])
    yield compared(
        "layer.ratio",
        builder.on("packages"),
        lambda: raw_layer(
            builder.layer("packages"), builder.change(), builder.context / "app", builder.scratch
        ),
        rounds=ROUNDS,
    )


def _seconds(builder: Builder, site: Path) -> float:
    environment = {**builder.daemon.environment, "PYTHONPATH": str(site)}
    words = ["image", "build", "-t", "changed", str(builder.context)]
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, str(site / "bin/vmorch"), *words],
        env=environment,
        check=True,
        capture_output=True,
        cwd="/",
    )
    return time.perf_counter() - began


def _plain(name: str, samples: list[float]) -> Figure:
    return Figure(name=name, value=statistics.median(samples), unit="s", samples=samples)


def _packages(builder: Builder, scratch: Path) -> Figure:
    builder.image("downloaded", DOWNLOADED)
    tree = chroot_of(builder.layer("downloaded"), scratch)

    def ours() -> float:
        text = f"FROM downloaded\nRUN {INSTALL} # {next(_numbers)}\n"
        return builder.image("installed", text)

    return compared(
        "packages.ratio", ours, lambda: install_in_chroot(tree, scratch, INSTALL), rounds=5
    )


def _agreement(builder: Builder) -> Figure:
    """Two builds without the cache; 1 when their files agree."""
    text = "FROM packages\n" + "".join(
        f"RUN mkdir /srv/{n} && date > /srv/{n}/file\nCOPY app /srv/app{n}\n".replace(
            "date", "date -u -d @$SOURCE_DATE_EPOCH"
        )
        for n in range(3)
    )
    contents = set()
    for _ in range(2):
        args = {"SOURCE_DATE_EPOCH": "1700000000"}
        builder.image("agreeing", text, no_cache=True, args=args)
        contents.add(builder.daemon.client.image_content("agreeing"))
    return Figure(name="layer.agreement", value=float(len(contents) == 1), unit="yes")
