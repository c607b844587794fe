"""A command or a shell in a running instance, over a one-shot unix socket."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """`domain` and `address` (the outer one) say where the guest is; `has_ssh` and `has_agent`
    which ways into it exist. `argv` None is the user's login shell. `user` empty means root,
    `working_dir` None the user's home. `environment` is added to the session's own."""

    domain: str
    address: str
    argv: tuple[str, ...] | None
    tty: bool
    user: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    columns: int = 80
    rows: int = 24
    has_ssh: bool = False
    has_agent: bool = False


class ExecSessions(Protocol):
    async def open(self, request: ExecRequest) -> Path:
        """A socket under the settings' `exec_dir` that takes one connection, speaks
        `vmorch.model.frames`, and is removed once it is taken or nobody came in time.

        Raises:
            GuestError: the guest has no way in, or does not answer.
        """
        ...

    async def open_console(self, domain: str) -> Path:
        """The same for a guest's serial console: STDIN and STDOUT frames, EXIT when it ends.

        Raises:
            Refused: another session has it. HypervisorError: there is none.
        """
        ...
