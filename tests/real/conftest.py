"""What real tests share: made bases, and whole daemons of their own inside the lab."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.lab_daemon import LabDaemon, lab_daemon, made_bases


@pytest.fixture(scope="session", autouse=True)
def inside_the_lab() -> None:
    """These tests start guests and change networks: never on the host itself."""
    if "VMORCH_LAB" not in os.environ:
        pytest.exit("Real tests run in a lab: script/lab .venv/bin/pytest tests/real", 2)


@pytest.fixture(scope="session")
def images_dir() -> Path:
    """A store of images that holds every base."""
    return made_bases("tiny", "debian-12")


@pytest.fixture(scope="module")
def daemon(images_dir: Path) -> Iterator[LabDaemon]:
    """One daemon for the tests of a module; whatever they leave running goes with it."""
    with lab_daemon(images_dir) as own:
        yield own
