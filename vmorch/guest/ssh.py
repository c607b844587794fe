"""SSH connections into guests by paramiko. Blocking: callers bring a thread of their own."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from pathlib import Path

import paramiko

from vmorch.errors import GuestError

SSH_PORT = 22
_KEY_TYPE = "ssh-ed25519"
# A guest that vanished sends nothing more: TCP itself would wait for a quarter of an hour.
_PEER_GONE_MILLISECONDS = 30_000
_KEEPALIVE_SECONDS = 10

# paramiko reports on its own what it also raises; without a handler that lands on stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """`kind` is what TERM says."""

    columns: int
    rows: int
    kind: str


def connect(
    address: str,
    *,
    host_key: str,
    client_key: Path,
    timeout_seconds: float,
    port: int = SSH_PORT,
) -> paramiko.Transport:
    """A connection as root to a guest that shows exactly `host_key` ("ssh-ed25519 …").

    Raises:
        GuestError: nobody answers, another key is shown, or ours is not accepted.
    """
    connection = _tcp(address, port, timeout_seconds)
    try:
        transport = paramiko.Transport(connection)
    except (paramiko.SSHException, OSError) as error:
        connection.close()
        raise _refused(address, error) from error
    transport.banner_timeout = transport.auth_timeout = timeout_seconds
    transport.set_keepalive(_KEEPALIVE_SECONDS)
    transport.get_security_options().key_types = [_KEY_TYPE]
    try:
        transport.start_client(timeout=timeout_seconds)
        _check_host_key(address, transport.get_remote_server_key(), host_key)
        key = paramiko.Ed25519Key.from_private_key_file(str(client_key))
        transport.auth_publickey("root", key)
    except (paramiko.SSHException, OSError, EOFError) as error:
        transport.close()
        raise _refused(address, error) from error
    except GuestError:
        transport.close()
        raise
    return transport


def start_command(
    transport: paramiko.Transport, line: str, terminal: Terminal | None, timeout_seconds: float
) -> paramiko.Channel:
    """A channel in which root's shell runs `line`, in a terminal of the guest if one is given.

    Raises:
        GuestError: the guest's SSH server refused.
    """
    try:
        channel = transport.open_session(timeout=timeout_seconds)
        if terminal is not None:
            channel.get_pty(terminal.kind, terminal.columns, terminal.rows)
        channel.exec_command(line)
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise GuestError(f"The guest's SSH server refused the session: {_words(error)}.") from error
    return channel


def _tcp(address: str, port: int, timeout_seconds: float) -> socket.socket:
    try:
        connection = socket.create_connection((address, port), timeout_seconds)
    except OSError as error:
        raise _refused(address, error) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _PEER_GONE_MILLISECONDS)
    return connection


def _check_host_key(address: str, shown: paramiko.PKey, expected: str) -> None:
    if f"{shown.get_name()} {shown.get_base64()}" != " ".join(expected.split()[:2]):
        raise GuestError(
            f"{address} shows another host key than this instance's.",
            hint="Something else answers at its address, or the guest's keys were changed.",
        )


def _refused(address: str, error: Exception) -> GuestError:
    if isinstance(error, paramiko.AuthenticationException):
        return GuestError(
            f"{address} does not accept vmorch's SSH key.",
            hint="The guest's /root/.ssh/authorized_keys or sshd settings were changed.",
        )
    return GuestError(
        f"SSH to {address} failed: {_words(error)}.",
        hint="The guest may still be booting; see 'vmorch ps' and 'vmorch logs'.",
        retryable=True,
    )


def _words(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
