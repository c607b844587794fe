"""Exec sessions: a one-shot unix socket for the client, and behind it SSH or the agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

import paramiko

from vmorch.effects import Clock, Entropy
from vmorch.errors import GuestError, Refused, VmorchError
from vmorch.guest import commands
from vmorch.guest.agent import Agent
from vmorch.guest.agent_session import AgentSession
from vmorch.guest.console import ConsoleSession
from vmorch.guest.frame_socket import FrameSocket
from vmorch.guest.protocol import AgentCall
from vmorch.guest.ssh import SSH_PORT, Terminal, connect
from vmorch.guest.ssh_session import SshSession
from vmorch.guest.threads import in_thread
from vmorch.model.exec import ExecRequest

# A descriptor on a domain's serial console; see `Hypervisor.open_console`.
OpenConsole = Callable[[str], Awaitable[int]]

# The public host key of a domain's instance; raises NotFound when there is none.
HostKeyFor = Callable[[str], Awaitable[str]]

_TOKEN_BYTES = 16
_COME_SECONDS = 10.0
# A guest under emulation with a tight cap needs seconds for the key exchange.
_CONNECT_SECONDS = 30.0
_PING_SECONDS = 5.0
_DEFAULT_TERM = "xterm-256color"


class ExecSessionServer:
    """Implements `ExecSessions`. `group_id` may connect beside root."""

    def __init__(
        self,
        *,
        exec_dir: Path,
        client_key: Path,
        host_key_for: HostKeyFor,
        agent: AgentCall,
        console: OpenConsole,
        clock: Clock,
        entropy: Entropy,
        group_id: int | None = None,
        ssh_port: int = SSH_PORT,
    ) -> None:
        self._exec_dir = exec_dir
        self._client_key = client_key
        self._host_key_for = host_key_for
        self._agent = Agent(agent, clock)
        self._console = console
        self._consoles: set[str] = set()
        self._entropy = entropy
        self._group_id = group_id
        self._ssh_port = ssh_port
        self._sessions: dict[Path, asyncio.Task[None]] = {}

    async def open(self, request: ExecRequest) -> Path:
        """See `ExecSessions.open`. The way into the guest is tried before it returns; the command
        starts when the client has come."""
        path = self._exec_dir / self._entropy.random_bytes(_TOKEN_BYTES).hex()
        transport = await self._way_in(request)
        try:
            listener = self._listen(path)
        except GuestError:
            if transport is not None:
                transport.close()
            raise
        self._keep(path, self._serve(listener, path, request, transport))
        return path

    async def open_console(self, domain: str) -> Path:
        """See `ExecSessions.open_console`."""
        if domain in self._consoles:
            raise Refused(
                f"The console of {domain} is open in another session.",
                hint="End that one (Ctrl-]), or read along with 'vmorch logs --source console -f'.",
            )
        path = self._exec_dir / self._entropy.random_bytes(_TOKEN_BYTES).hex()
        self._consoles.add(domain)
        try:
            console = await self._console(domain)
            try:
                listener = self._listen(path)
            except GuestError:
                os.close(console)
                raise
        except BaseException:
            self._consoles.discard(domain)
            raise
        task = self._keep(path, self._serve_console(listener, path, console))
        task.add_done_callback(lambda _: self._consoles.discard(domain))
        return path

    def _keep(self, path: Path, serving: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(serving, name=f"session {path.name}")
        self._sessions[path] = task
        task.add_done_callback(lambda _: self._sessions.pop(path, None))
        return task

    async def close(self) -> None:
        """End all sessions; their clients see the end of their sockets."""
        sessions = dict(self._sessions)
        for task in sessions.values():
            task.cancel()
        await asyncio.gather(*sessions.values(), return_exceptions=True)
        for path in sessions:  # of those that were cancelled before their first step
            path.unlink(missing_ok=True)

    async def _way_in(self, request: ExecRequest) -> paramiko.Transport | None:
        """An SSH connection, or None when it will be the agent."""
        if request.has_ssh:
            host_key = await self._host_key_for(request.domain)
            return await asyncio.to_thread(
                connect,
                request.address,
                host_key=host_key,
                client_key=self._client_key,
                timeout_seconds=_CONNECT_SECONDS,
                port=self._ssh_port,
            )
        if not request.has_agent:
            raise GuestError(
                "The instance's image has neither SSH nor a guest agent.",
                hint="Use an image whose base has one; see docs/guest-contract.md.",
            )
        if request.tty or request.argv is None:
            raise GuestError(
                "The instance's image has no SSH, and the guest agent offers no terminal.",
                hint="Give a command, with -T.",
            )
        await self._agent.ping(request.domain, _PING_SECONDS)
        return None

    def _listen(self, path: Path) -> socket.socket:
        """Raises GuestError."""
        try:
            return self._listener(path)
        except OSError as error:
            raise GuestError(f"The socket {path} cannot be made: {error.strerror}.") from error

    def _listener(self, path: Path) -> socket.socket:
        self._exec_dir.mkdir(parents=True, exist_ok=True)
        self._exec_dir.chmod(0o711)
        self._remove_strangers()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listener.bind(str(path))
            if self._group_id is not None:
                os.chown(path, -1, self._group_id)
            path.chmod(0o660)
            listener.listen(1)
        except OSError:
            listener.close()
            path.unlink(missing_ok=True)
            raise
        return listener

    def _remove_strangers(self) -> None:
        """The directory is this daemon's alone: sockets it does not know are a killed one's."""
        for path in self._exec_dir.iterdir():
            if path not in self._sessions:
                path.unlink(missing_ok=True)

    async def _serve(
        self,
        listener: socket.socket,
        path: Path,
        request: ExecRequest,
        transport: paramiko.Transport | None,
    ) -> None:
        client: FrameSocket | None = None
        try:
            connection = await _first_client(listener, path)
            if connection is not None:
                client = FrameSocket(connection)
                await self._session(client, path.name, request, transport)
        finally:
            # Both end the session's threads when it is this task that was cancelled.
            if client is not None:
                client.end()
            if transport is not None:
                transport.close()

    async def _serve_console(self, listener: socket.socket, path: Path, console: int) -> None:
        connection: socket.socket | None = None
        try:
            connection = await _first_client(listener, path)
        finally:
            if connection is None:
                os.close(console)
        if connection is None:
            return
        session = ConsoleSession(connection, console)
        try:
            await in_thread(session.run)
        finally:
            session.end()  # its thread, when it is this task that was cancelled

    async def _session(
        self,
        client: FrameSocket,
        token: str,
        request: ExecRequest,
        transport: paramiko.Transport | None,
    ) -> None:
        argv = commands.as_user(
            token,
            request.argv,
            user=request.user,
            working_dir=request.working_dir,
            environment=request.environment,
        )
        if transport is None:
            session = AgentSession(
                client, self._agent, domain=request.domain, token=token, argv=argv
            )
            await session.run()
        else:
            line = commands.shell_line(argv)
            await in_thread(lambda: _over_ssh(client, transport, token, line, request))


async def _first_client(listener: socket.socket, path: Path) -> socket.socket | None:
    """Who came in time; the socket is gone then, so nobody else can come."""
    loop = asyncio.get_running_loop()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_COME_SECONDS):
                connection, _ = await loop.sock_accept(listener)
                return connection
        return None
    finally:
        listener.close()
        path.unlink(missing_ok=True)


def _over_ssh(
    client: FrameSocket,
    transport: paramiko.Transport,
    token: str,
    line: str,
    request: ExecRequest,
) -> None:
    """Closes the client here, where no other thread uses it any more."""
    terminal = None
    if request.tty:
        kind = request.environment.get("TERM", _DEFAULT_TERM)
        terminal = Terminal(columns=request.columns, rows=request.rows, kind=kind)
    try:
        SshSession(
            client,
            transport,
            token=token,
            line=line,
            terminal=terminal,
            timeout_seconds=_CONNECT_SECONDS,
        ).run()
    except VmorchError as error:
        client.send_error(error)
    finally:
        client.close()
