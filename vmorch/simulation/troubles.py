"""What goes wrong between the daemon and the ports it acts through: calls that fail, hang or are
slow, a full disk, and a daemon that dies before one of its effects."""

from __future__ import annotations

import asyncio
import enum
import errno
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from vmorch.effects import Clock
from vmorch.errors import (
    GuestError,
    HypervisorError,
    NetworkError,
    ProxyError,
    StoreError,
    VmorchError,
)

ERRORS: dict[str, type[VmorchError]] = {
    "hypervisor": HypervisorError,
    "network": NetworkError,
    "proxy": ProxyError,
    "guests": GuestError,
    "store": StoreError,
}
"""What a port's protocol lets it raise; the others raise VmorchError itself."""

BOUND_SECONDS = 60.0
"""When a call that hangs comes back with an error, as by its adapter's own limit. A call to one
guest has no limit: libvirt waits for as long as QEMU does not answer."""

NEED_ROOM = frozenset(
    {
        ("images", "create_disk"),
        ("images", "create_fork"),
        ("disks", "ensure"),
        ("guests", "write_seed"),
        ("snapshots", "draft"),
        ("snapshots", "publish"),
        ("hypervisor", "save"),
        ("store", "put_instance"),
        ("store", "create_instance"),
        ("store", "delete_instance"),
        ("store", "claim_volumes"),
        ("store", "note_made"),
        ("store", "add_event"),
        ("store", "disown"),
        ("store", "forget"),
    }
)
"""The calls that write, and so fail on a full disk."""


class Kind(enum.StrEnum):
    """BROKEN_OFF: it has happened, but an error comes back, as when a connection is lost."""

    FAILS = "fails"
    BROKEN_OFF = "broken off"
    HANGS = "hangs"
    SLOW = "slow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """The next `times` calls of a port go wrong; with `about`, those of which the first argument
    names it. `seconds` are what a slow one takes."""

    port: str
    call: str
    kind: Kind = Kind.FAILS
    times: int = 1
    seconds: float = 5.0
    about: str = ""

    def is_meant(self, arguments: tuple[Any, ...]) -> bool:
        return not self.about or (bool(arguments) and self.about in _named(arguments[0]))


class Troubles:
    """`full`: the disk is. `last_at` is when something last went wrong; `crash_in` is how many
    effects from now the daemon dies, by `die`."""

    def __init__(self, clock: Clock, die: Callable[[], None]) -> None:
        self.full = False
        self.last_at = 0.0
        self.crash_in: int | None = None
        self._ahead: dict[tuple[str, str], list[Trouble]] = {}
        self._hanging = 0
        self._clock = clock
        self._die = die
        self._over = asyncio.Event()

    @property
    def pending(self) -> bool:
        ahead = bool(self._ahead) or self.full or self.crash_in is not None
        return ahead or self._hanging > 0

    def add(self, trouble: Trouble) -> None:
        self._over.clear()
        ahead = self._ahead.setdefault((trouble.port, trouble.call), [])
        ahead += [trouble] * trouble.times

    def clear(self) -> None:
        """From now on all is well; what hangs comes back with an error."""
        self.full, self.crash_in = False, None
        self._ahead.clear()
        self._over.set()

    async def call(
        self, port: str, call: str, work: Callable[..., Any], *args: Any, **kw: Any
    ) -> Any:
        """Make the call, or let it go wrong."""
        await self._effect()
        if self.full and (port, call) in NEED_ROOM:
            self.last_at = self._clock.now()
            raise _no_room(port)
        trouble = self._next(port, call, args)
        if trouble is None:
            return await work(*args, **kw)
        return await self._troubled(trouble, work, *args, **kw)

    def _next(self, port: str, call: str, args: tuple[Any, ...]) -> Trouble | None:
        ahead = self._ahead.get((port, call), [])
        trouble = next((t for t in ahead if t.is_meant(args)), None)
        if trouble is not None:
            ahead.remove(trouble)
            if not ahead:
                del self._ahead[port, call]
        return trouble

    async def _troubled(
        self, trouble: Trouble, work: Callable[..., Any], *args: Any, **kw: Any
    ) -> Any:
        try:
            match trouble.kind:
                case Kind.SLOW:
                    await self._clock.sleep(trouble.seconds)
                    return await work(*args, **kw)
                case Kind.BROKEN_OFF:
                    await work(*args, **kw)
                case Kind.HANGS:
                    await self._hang(trouble, args)
            error = ERRORS.get(trouble.port, VmorchError)
            raise error(f"Injected: {trouble.call} {trouble.kind}.", retryable=True)
        finally:
            self.last_at = self._clock.now()

    async def _hang(self, trouble: Trouble, args: tuple[Any, ...]) -> None:
        limit = None if trouble.port == "hypervisor" and args else BOUND_SECONDS
        # Nobody can be prompt who waits for it, for as long as a call of this kind may take.
        self._hanging += limit is not None
        try:
            async with asyncio.timeout(limit):
                await self._over.wait()
        except TimeoutError:
            return
        finally:
            self._hanging -= limit is not None

    async def _effect(self) -> None:
        if self.crash_in is None:
            return
        self.crash_in -= 1
        if self.crash_in < 0:
            self.crash_in = None
            self._die()
            await asyncio.Event().wait()


class Troubled:
    """A port as the daemon has it, with its troubles; `seen` is told of each call before it is
    made. What is no coroutine function passes as it is; `instead` stands in for some of it."""

    def __init__(
        self,
        name: str,
        port: object,
        troubles: Troubles,
        seen: Callable[[str, str, tuple[Any, ...]], Awaitable[None]],
        **instead: Any,
    ) -> None:
        self.__dict__.update(instead)
        self._name = name
        self._port = port
        self._troubles = troubles
        self._seen = seen

    def __getattr__(self, call: str) -> Any:
        if not inspect.iscoroutinefunction(getattr(self._port, call)):
            return getattr(self._port, call)

        async def made(*args: Any, **kw: Any) -> Any:
            await self._seen(self._name, call, args)
            work = getattr(self._port, call)  # asked for anew: a test may have replaced it
            return await self._troubles.call(self._name, call, work, *args, **kw)

        self.__dict__[call] = made
        return made


def _named(argument: object) -> str:
    return argument if isinstance(argument, str) else str(getattr(argument, "name", ""))


def _no_room(port: str) -> Exception:
    if port in {"store", "hypervisor"}:
        return ERRORS[port]("The disk is full.", retryable=True)
    return OSError(errno.ENOSPC, "No space left on device", "injected")
