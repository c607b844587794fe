"""How light the command line is: an installed wheel against a bare interpreter.

`cli.help_ratio`: vmorch --help. `cli.ps_ratio`: vmorch ps with 20 instances, the daemon warm.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figure import Figure, compared

ROOT = Path(__file__).parent.parent
ROUNDS = 15
INSTANCES = 20


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as scratch:
        site = install_wheel(Path(scratch))
        program = str(site / "bin" / "vmorch")
        socket = Path(scratch) / "api.sock"
        environment = {**os.environ, "PYTHONPATH": str(site), "VMORCH_SOCKET": str(socket)}
        with serving(socket):
            for name, word in (("cli.help_ratio", "--help"), ("cli.ps_ratio", "ps")):
                yield compared(
                    name,
                    lambda word=word: seconds([program, word], environment),
                    lambda: seconds(["-c", "pass"], environment),
                    rounds=ROUNDS,
                )


def seconds(arguments: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        cwd="/",
    )
    return time.perf_counter() - start


def install_wheel(scratch: Path) -> Path:
    """The wheel, installed as pip does, byte-compiled, apart from the checkout."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheels = scratch / "wheels"
    alone = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *alone, "-w", wheels, ROOT], check=True)
    target = scratch / "site"
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    subprocess.run([sys.executable, "-m", "compileall", "-q", target], check=True)
    return target


@contextmanager
def serving(socket: Path) -> Iterator[None]:
    """The real API over the real store with 20 instances written into it; no guest runs."""
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.api_server", str(socket), str(INSTANCES)], cwd=ROOT
    )
    try:
        while not socket.exists():
            if server.poll() is not None:
                raise RuntimeError(f"bench.api_server ended with exit code {server.returncode}")
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait()
