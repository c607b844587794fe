"""Commands in a guest by the QEMU guest agent, which `AgentCall` carries.

The agent answers a whole program's output in one message, and libvirt passes messages of a few
MiB only. So `run` lets a shell in the guest cut the output, and ends in the guest what the
host no longer waits for.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vmorch.effects import Clock
from vmorch.errors import GuestError
from vmorch.guest.protocol import AgentCall
from vmorch.model.guest import GuestReport

IDENTITY_PROGRAM = "/usr/lib/vmorch/vmorch-identity"
GUEST_PROGRAM = "/usr/lib/vmorch/vmorch-guest"
OUTPUT_LIMIT_BYTES = 1024 * 1024
# The first and the longest pause between two looks. The first looks come quickly, as most commands
# are short; a long one is not pestered.
_LOOK_SECONDS = (0.02, 0.5)
# Somebody waits for a guest that was resumed; but each look costs it time for its repair, which
# takes a few tenths of a second; one that only slept has much less to do.
_RESUMED_LOOK_SECONDS = (0.1, 0.1)
_WOKEN_LOOK_SECONDS = (0.02, 0.1)
_PING_SECONDS = 5.0
_SERVICES = frozenset({"active", "activating", "failed", "exited", "none"})
_CLOUD_INITS = frozenset({"off", "running", "done", "error"})
# $1 seconds, $2 bytes, then the command. Both streams go through one pipe, of which `head` keeps
# the beginning and `cat` swallows the rest, so that the command is never stopped by a full pipe;
# the exit code travels beside it. `timeout` ends what the host has given up by then: of busybox
# it ends the command only, so that a session of its own is needed to find what that has started.
_BOUNDED = (
    "exec 4>&1; seconds=$1 bytes=$2; shift 2; "
    'code=$( { { setsid timeout -s KILL $seconds "$@" 2>&1 3>&- 4>&- & own=$!; wait $own; code=$?; '
    '[ $code != 137 ] || kill -s KILL -- "-$own" 2>/dev/null; echo $code >&3; } | '
    "{ head -c $bytes; cat >/dev/null; } >&4; } 3>&1 ); exit $code"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A command that ended. `code` is 128 + signal where a signal ended it, as a shell says."""

    code: int
    stdout: bytes
    stderr: bytes

    def last_words(self) -> str:
        return (self.stderr or self.stdout)[-500:].decode(errors="replace").strip()


class Agent:
    """The agents of all guests; `domain` says which."""

    def __init__(self, call: AgentCall, clock: Clock) -> None:
        self._call = call
        self._clock = clock

    async def ping(self, domain: str, timeout_seconds: float) -> None:
        """Raises GuestError: nobody answers."""
        await self._call(domain, "guest-ping", {}, timeout_seconds)

    async def report(self, domain: str, timeout_seconds: float) -> GuestReport:
        """What `vmorch-identity status` says.

        Raises:
            GuestError: the agent or the program does not answer, or answers nonsense.
        """
        done = await self.execute(domain, [IDENTITY_PROGRAM, "status"], timeout_seconds)
        if done.code != 0:
            raise GuestError(
                f"{domain}: its status program ended with {done.code}: {done.last_words()}"
            )
        return parse_report(domain, done.stdout)

    async def tell(
        self,
        domain: str,
        command: Sequence[str],
        epoch: float,
        words: Sequence[str],
        timeout_seconds: float,
    ) -> None:
        """Run `vmorch-identity COMMAND EPOCH WORDS` in a guest that was just resumed, once its
        agent answers. `epoch` is now; what passes until then is added.

        Raises:
            GuestError: the agent does not answer in time, or the program fails.
        """
        began = self._clock.now()
        deadline = began + timeout_seconds
        await self._answering(domain, deadline)
        now = self._clock.now()
        argv = [IDENTITY_PROGRAM, *command, f"{epoch + now - began:.3f}", *words]
        done = await self.execute(domain, argv, deadline - now, look_seconds=_RESUMED_LOOK_SECONDS)
        _refuse_failure(domain, argv, done)

    async def wake(self, domain: str, epoch: float, timeout_seconds: float) -> None:
        """Run `vmorch-guest wake` in a guest that goes on in its own memory. Somebody waits for
        it, and to run it twice does no harm: the first word to the agent is the command itself.

        Raises:
            GuestError: the agent does not answer in time, or the program fails.
        """
        began = self._clock.now()
        deadline = began + timeout_seconds
        while True:
            now = self._clock.now()
            argv = [GUEST_PROGRAM, "wake", f"{epoch + now - began:.3f}"]
            try:
                done = await self.execute(
                    domain, argv, deadline - now, look_seconds=_WOKEN_LOOK_SECONDS
                )
                break
            except GuestError as error:
                if not error.retryable or self._clock.now() >= deadline:
                    raise
            await self._clock.sleep(_RESUMED_LOOK_SECONDS[0])
        _refuse_failure(domain, argv, done)

    async def _answering(self, domain: str, deadline: float) -> None:
        """Only the ping is repeated: a program whose start went unanswered may be running."""
        while True:
            left = deadline - self._clock.now()
            try:
                await self.ping(domain, max(1.0, min(left, _PING_SECONDS)))
                return
            except GuestError as error:
                if not error.retryable or self._clock.now() >= deadline:
                    raise
            await self._clock.sleep(_RESUMED_LOOK_SECONDS[0])

    async def run(
        self, domain: str, argv: Sequence[str], timeout_seconds: float
    ) -> tuple[int, bytes]:
        """Run a command as root; its exit code and the first MiB of its output (both streams).

        Raises:
            GuestError: no agent, no such shell, or no end in time.
        """
        wrapped = bounded(argv, math.ceil(timeout_seconds) + 1)
        done = await self.execute(domain, wrapped, timeout_seconds)
        return done.code, done.stdout + done.stderr

    async def execute(
        self,
        domain: str,
        argv: Sequence[str],
        timeout_seconds: float,
        *,
        look_seconds: tuple[float, float] = _LOOK_SECONDS,
    ) -> Finished:
        """Run a program by its path, as the agent runs it: little output, nothing ended.
        `look_seconds` are the first and the longest pause between two looks.

        Raises:
            GuestError: no agent, no such program, or no end in time.
        """
        deadline = self._clock.now() + timeout_seconds
        arguments = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
        started = await self._call(domain, "guest-exec", arguments, timeout_seconds)
        pid = _field(domain, started, "pid")
        pause, longest = look_seconds
        while True:
            left = deadline - self._clock.now()
            if left <= 0:
                raise GuestError(
                    f"{domain}: {argv[0]} did not end within {timeout_seconds:g} s.", retryable=True
                )
            status = await self._call(domain, "guest-exec-status", {"pid": pid}, left)
            if _field(domain, status, "exited"):
                return _finished(domain, status)
            await self._clock.sleep(min(pause, left))
            pause = min(pause * 1.5, longest)


def _refuse_failure(domain: str, argv: Sequence[str], done: Finished) -> None:
    if done.code != 0:
        raise GuestError(
            f"{domain}: '{' '.join(argv)}' ended with {done.code}: {done.last_words()}"
        )


def bounded(argv: Sequence[str], seconds: float) -> list[str]:
    """The same command with its output cut; by then it is ended, with all that it has started."""
    return ["/bin/sh", "-c", _BOUNDED, "sh", str(seconds), str(OUTPUT_LIMIT_BYTES), *argv]


def parse_report(domain: str, text: bytes) -> GuestReport:
    """The report of the JSON object that `vmorch-identity status` prints.

    Raises:
        GuestError: it is none.
    """
    try:
        said = json.loads(text)
        report = GuestReport(
            instance_id=str(said["instance_id"]),
            service=str(said["service"]),
            cloud_init=str(said["cloud_init"]),
            cloud_init_detail=str(said.get("cloud_init_detail") or ""),
            exit_code=None if said.get("exit_code") is None else int(said["exit_code"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GuestError(
            f"{domain}: its status program said {text[:200]!r}, which is no report.",
            hint="The image's vmorch-identity is of another version; build its base anew.",
        ) from error
    if report.service not in _SERVICES or report.cloud_init not in _CLOUD_INITS:
        raise GuestError(f"{domain}: its status program used an unknown word: {text[:200]!r}.")
    return report


def _finished(domain: str, status: dict[str, Any]) -> Finished:
    """`signal` is there instead of `exitcode` where one ended the program."""
    try:
        code = status["exitcode"] if "exitcode" in status else 128 + status["signal"]
        return Finished(
            code=int(code),
            stdout=base64.b64decode(status.get("out-data", ""), validate=True),
            stderr=base64.b64decode(status.get("err-data", ""), validate=True),
        )
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise GuestError(f"{domain}: the guest agent's answer is malformed: {error}.") from error


def _field(domain: str, answer: Any, name: str) -> Any:
    if not isinstance(answer, dict) or name not in answer:
        raise GuestError(f"{domain}: the guest agent's answer lacks '{name}': {answer!r}.")
    return answer[name]
