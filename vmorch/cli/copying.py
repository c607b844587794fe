"""Files between this host and a guest, as a tar stream through an exec session.

Both ends follow cp: what is copied onto a directory goes into it, else it gets the new name.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tarfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from vmorch.cli.output import say
from vmorch.cli.terminal import run_session
from vmorch.cli.unpacking import Unpacking
from vmorch.errors import GuestError, NotFound, UsageError, VmorchError

if TYPE_CHECKING:
    from vmorch.client import Client

# Arguments: the target, the name in the archive. Extracted beside the target first, so that a copy
# that breaks off leaves no half of it under its name.
_RECEIVE = """
if [ -d "$1" ]; then exec tar -xof - -C "$1"; fi
parent=$(dirname -- "$1")
[ -d "$parent" ] || { echo "There is no directory $parent." >&2; exit 1; }
new=$(mktemp -d "$parent/.vmorch-cp.XXXXXX") || exit
trap 'rm -rf "$new"' EXIT
tar -xof - -C "$new" && mv -T -- "$new/$2" "$1"
"""
_SEND = """
[ -e "$1" ] || [ -L "$1" ] || { echo "There is no $1." >&2; exit 1; }
exec tar -C "$(dirname -- "$1")" -cf - -- "$(basename -- "$1")"
"""


@dataclass(frozen=True, slots=True)
class Place:
    """`instance` None: on this host."""

    instance: str | None
    path: str


def place(text: str) -> Place:
    """INSTANCE:PATH, or a path here: one with a slash before its first colon, or without one."""
    instance, colon, path = text.partition(":")
    if not colon or "/" in instance or instance in {"", "."}:
        return Place(None, text)
    if not path:
        raise UsageError(f"'{text}' names no path.", hint="Such as orders-1:/etc/hosts.")
    return Place(instance, path)


@dataclass(frozen=True, slots=True)
class Copying:
    """Copies between this host and instances of one environment, as root in the guest."""

    client: Client
    environment: str

    def to_guest(self, source: Path, instance: str, target: str) -> None:
        """Raises NotFound (source), GuestError (the guest said no), Refused (it has no SSH)."""
        if not source.exists():
            raise NotFound(f"There is no {source}.", hint="Check the name, and where you are.")
        name = source.absolute().name or "root"

        def send(stream: IO[bytes]) -> None:
            with tarfile.open(fileobj=stream, mode="w|") as archive:
                archive.add(source, arcname=name)

        reader, writer = os.pipe()
        sending = _Side(writer, "wb", send)
        try:
            code = self._run(instance, _RECEIVE, [target, name], input_from=reader)
        finally:
            os.close(reader)  # what is still being written has nobody left to go to
            sending.join()
        _check(code, sending.failure, f"{instance}:{target}")

    def from_guest(self, instance: str, source: str, target: Path) -> None:
        """Raises NotFound (the target's directory), GuestError, Refused (it has no SSH)."""
        inside = target.is_dir()
        if not inside and not target.absolute().parent.is_dir():
            raise NotFound(f"There is no directory {target.parent}.", hint="Make it first.")
        root = target if inside else target.absolute().parent
        name = None if inside else target.name

        def receive(stream: IO[bytes]) -> None:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                Unpacking(root, name, say).run(archive)
            while stream.read(64 * 1024):  # tar pads its end
                continue

        reader, writer = os.pipe()
        receiving = _Side(reader, "rb", receive)
        code = 0
        try:
            # When this side breaks off, it says why.
            with Path(os.devnull).open("rb") as nothing, contextlib.suppress(BrokenPipeError):
                code = self._run(
                    instance, _SEND, [source], input_from=nothing.fileno(), output_to=writer
                )
        finally:
            os.close(writer)
            receiving.join()
        _check(code, receiving.failure, f"{instance}:{source}")

    def _run(
        self,
        instance: str,
        script: str,
        arguments: list[str],
        *,
        input_from: int,
        output_to: int | None = None,
    ) -> int:
        path = self.client.open_exec(
            self.environment,
            instance,
            argv=["/bin/sh", "-c", script, "sh", *arguments],
            tty=False,
            user="root",
            working_dir="/",
            binary=True,
        )
        return run_session(
            path,
            tty_wanted=False,
            input_from=input_from,
            output_to=sys.stderr.fileno() if output_to is None else output_to,
        )


class _Side:
    """The archive's end of the pipe, in a thread of its own, which closes the descriptor."""

    def __init__(self, descriptor: int, mode: str, work: Callable[[IO[bytes]], None]) -> None:
        self.failure: Exception | None = None
        self._descriptor, self._mode, self._work = descriptor, mode, work
        self._thread = threading.Thread(target=self._run, name="cp", daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            with os.fdopen(self._descriptor, self._mode) as stream:
                self._work(stream)
        except BrokenPipeError:
            return  # the guest's side has ended, and tells how
        except Exception as error:
            self.failure = error


def _check(code: int, failure: Exception | None, what: str) -> None:
    """A failure on this side also ends the guest's; what only ended too early is the guest's."""
    ours = failure is not None and not isinstance(failure, tarfile.ReadError)
    if isinstance(failure, VmorchError):
        raise failure
    if code != 0 and not ours:
        raise GuestError(
            f"{what} was not copied: the guest's tar ended with {code}.",
            hint="What it said stands above.",
        )
    if failure is not None:
        raise VmorchError(
            f"{what} was not copied whole: {failure}.", hint="What came before it is there."
        ) from failure
