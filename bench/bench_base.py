"""What making the base debian-12 costs beside its packages.

`base.ratio`: from nothing to the finished base (root, kernel, initramfs, disk) against a bare
mmdebstrap of the same packages into a directory. `base.disk_bytes`: the size of its disk.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure, compared
from vmorch.images.base_definition import BaseDefinition, load_definitions
from vmorch.images.bases import Base, BaseCatalog
from vmorch.model.stepnet import outside
from vmorch.resources import data_dir

BASE = "debian-12"
ROUNDS = 3


def run() -> Iterator[Figure]:
    definition = load_definitions(data_dir("images"))[BASE]
    made: list[Base] = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        places = (Path(scratch) / f"{number}" for number in itertools.count())

        def ours() -> float:
            began = time.perf_counter()
            made.append(asyncio.run(_catalog(next(places)).ensure(BASE, lambda progress: None)))
            return time.perf_counter() - began

        yield compared("base.ratio", ours, lambda: _bare(definition, next(places)), rounds=ROUNDS)
        disk = made[-1].disk.stat().st_size
        yield Figure(name="base.disk_bytes", value=float(disk), unit="B")


def _catalog(directory: Path) -> BaseCatalog:
    return BaseCatalog(directory, data_dir("images"), os.environ.get("VMORCH_OUTSIDE_NETNS", ""))


def _bare(definition: BaseDefinition, directory: Path) -> float:
    """The kernel's packages are left to us alone: installed, they would make an initramfs."""
    include = f"--include={','.join(definition.packages)}"
    command = ("mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--format=directory")
    began = time.perf_counter()
    subprocess.run(
        outside(
            os.environ.get("VMORCH_OUTSIDE_NETNS", ""),
            *(*command, include, definition.suite, str(directory)),
        ),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    os.sync()
    return time.perf_counter() - began
