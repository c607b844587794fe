"""Exec sessions against a real sshd, with the guest's own program, in a mount and PID namespace
that stands in for a guest. Only its address is the host's: a random port of loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vmorch.effects import SystemClock, SystemEntropy
from vmorch.errors import GuestError, HypervisorError
from vmorch.guest import commands
from vmorch.guest.keys import InstallationKeys, installation_keys
from vmorch.guest.sessions import ExecSessionServer
from vmorch.model import frames
from vmorch.model.exec import ExecRequest
from vmorch.model.frames import Frame, FrameType
from vmorch.resources import data_dir

GUEST = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd /run/vmorch/service
mkdir /run/upper /run/work
mount -t overlay -o lowerdir=/usr/lib,upperdir=/run/upper,workdir=/run/work overlay /usr/lib
mkdir /usr/lib/vmorch
cp "$1/vmorch-guest" /usr/lib/vmorch/
cat /etc/passwd "$1/users" >/run/passwd
mount --bind /run/passwd /etc/passwd
printf 'COLOUR=blue\\0' >/run/vmorch/service/environment
printf app >/run/vmorch/service/user
printf /tmp >/run/vmorch/service/directory
export LD_LIBRARY_PATH="$1/libraries"
exec "$2" -D -e -f "$1/sshd_config"
"""
UUID = "0d5c0a3e-1b52-4a52-9a36-8f6ff1e7ad11"


@dataclass(frozen=True)
class Sshd:
    port: int
    keys: InstallationKeys
    pid: int

    @property
    def enter(self) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-m", "-p"]

    def in_guest(self, *argv: str) -> subprocess.CompletedProcess[bytes]:
        """Run something in the namespaces of the stand-in."""
        return subprocess.run([*self.enter, *argv], capture_output=True, timeout=30)


def _sshd_program(directory: Path) -> str:
    """The host's sshd, or its package unpacked: installing it would start a server there."""
    installed = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if installed:
        return installed
    outside = Path(os.environ["VMORCH_OUTSIDE_NETNS"])
    fetch = """
    mount --bind "$1/resolv.conf" /etc/resolv.conf && mount --bind "$1/hosts" /etc/hosts
    exec apt-get -q download openssh-server libwrap0
    """
    enter = ["nsenter", f"--net={outside}", "unshare", "-m", "sh", "-c", fetch, "sh"]
    done = subprocess.run([*enter, outside.parent], cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for package in directory.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, directory], check=True)
    (directory / "libraries").mkdir()
    for library in directory.glob("**/libwrap.so.0*"):
        shutil.copy(library, directory / "libraries")
    return str(directory / "usr/sbin/sshd")


def _compile_guest_program(target: Path) -> None:
    sources = sorted((data_dir("images") / "guest/src").glob("*.c"))
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-O2", "-static", "-o", target, *sources], check=True)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    directory = tmp_path_factory.mktemp("guest")
    directory.chmod(0o755)
    keys = installation_keys(directory / "keys", SystemEntropy())
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    _compile_guest_program(directory / "vmorch-guest")
    (directory / "host_key").write_text(keys.host_key(UUID).private)
    (directory / "host_key").chmod(0o600)
    (directory / "authorized_keys").write_text(keys.client_public + "\n")
    (directory / "users").write_text(
        "sshd:x:64000:65534::/run/sshd:/usr/sbin/nologin\n"
        "app:x:64001:64001::/tmp:/usr/sbin/nologin\n"
    )
    (directory / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {directory}/host_key\n"
        f"AuthorizedKeysFile {directory}/authorized_keys\nUsePAM no\nStrictModes no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\n"
    )
    program = _sshd_program(directory)
    log = (directory / "sshd.log").open("wb")
    namespaces = ["unshare", "-m", "-p", "--fork", "--kill-child", "--mount-proc"]
    process = subprocess.Popen(
        [*namespaces, "sh", "-c", GUEST, "sh", directory, program], stdout=log, stderr=log
    )
    try:
        _wait_for_port(port, process, directory / "sshd.log")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Sshd(port, keys, int(children[0]))
    finally:
        process.kill()
        process.wait()
        log.close()


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError(log.read_text())


@dataclass
class Agent:
    """Answers as qemu-ga does, with processes in the stand-in's namespaces."""

    sshd: Sshd
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    async def __call__(
        self, domain: str, command: str, arguments: dict[str, Any], timeout: float
    ) -> Any:
        if command == "guest-ping":
            return {}
        if command == "guest-exec":
            argv = [*self.sshd.enter, arguments["path"], *arguments["arg"]]
            process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.processes[process.pid] = process
            return {"pid": process.pid}
        process = self.processes[arguments["pid"]]
        try:
            out, err = await asyncio.to_thread(process.communicate, timeout=0.05)
        except subprocess.TimeoutExpired:
            return {"exited": False}
        coded = {"out-data": out, "err-data": err}
        return {
            "exited": True,
            "exitcode": process.returncode,
            **{name: base64.b64encode(data).decode() for name, data in coded.items()},
        }


async def no_console(domain: str) -> int:
    raise HypervisorError(f"There is no guest {domain}.")


def _server(sshd: Sshd, directory: Path, host_key: str) -> ExecSessionServer:
    async def host_key_for(domain: str) -> str:
        return host_key

    return ExecSessionServer(
        exec_dir=directory / "x",
        client_key=sshd.keys.client_key,
        host_key_for=host_key_for,
        agent=Agent(sshd),
        console=no_console,
        clock=SystemClock(),
        entropy=SystemEntropy(),
        ssh_port=sshd.port,
    )


class Client:
    """What the command line does with a session's socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = frames.Decoder()
        self.seen: list[Frame] = []

    async def send(self, *sent: Frame) -> None:
        self._writer.write(b"".join(map(frames.encode, sent)))
        await self._writer.drain()

    async def stdin(self, data: bytes, *, end: bool = True) -> None:
        await self.send(Frame(FrameType.STDIN, data))
        if end:
            await self.send(Frame(FrameType.STDIN_END))

    async def until(self, text: bytes) -> None:
        while text not in self.output():
            assert await self._more(), self.seen

    async def ended(self) -> int:
        while await self._more():
            pass
        return frames.exit_code_of(self.seen[-1])

    async def _more(self) -> bool:
        data = await self._reader.read(65536)
        self.seen += self._decoder.feed(data)
        return bool(data)

    def output(self, kind: FrameType = FrameType.STDOUT) -> bytes:
        return b"".join(frame.payload for frame in self.seen if frame.type is kind)

    def close(self) -> None:
        self._writer.close()


@contextlib.asynccontextmanager
async def session(
    sshd: Sshd, directory: Path, argv: list[str] | None, **changes: Any
) -> AsyncIterator[Client]:
    server = _server(sshd, directory, sshd.keys.host_key(UUID).public)
    request = ExecRequest(
        domain="d",
        address="127.0.0.1",
        argv=None if argv is None else tuple(argv),
        tty=changes.pop("tty", False),
        has_ssh=changes.pop("has_ssh", True),
        has_agent=True,
        **changes,
    )
    try:
        async with asyncio.timeout(60):
            path = await server.open(request)
            assert path.stat().st_mode & 0o777 == 0o660
            client = Client(*await asyncio.open_unix_connection(path))
            yield client
            client.close()
    finally:
        await server.close()
    assert list((directory / "x").iterdir()) == []


def run(test: Any) -> None:
    asyncio.run(test)


def test_streams_and_exit_code(sshd: Sshd, tmp_path: Path) -> None:
    async def body() -> None:
        argv = ["sh", "-c", "cat; echo oops >&2; exit 7"]
        async with session(sshd, tmp_path, argv) as client:
            data = os.urandom(3_000_000)
            for start in range(0, len(data), 500_000):
                await client.stdin(data[start : start + 500_000], end=False)
            await client.send(Frame(FrameType.STDIN_END))
            assert await client.ended() == 7
            assert client.output() == data
            assert client.output(FrameType.STDERR) == b"oops\n"

    run(body())


def test_user_directory_and_environment(sshd: Sshd, tmp_path: Path) -> None:
    async def body() -> None:
        odd = "it's $HOME\n\\"
        script = 'id -u; id -g; pwd; printf %s "$ODD"; echo "[$1]"'
        async with session(
            sshd,
            tmp_path,
            ["sh", "-c", script, "sh", "a  'b"],
            user="app",
            working_dir="/usr/share",
            environment={"ODD": odd},
        ) as client:
            assert await client.ended() == 0
            assert client.output().decode() == f"64001\n64001\n/usr/share\n{odd}[a  'b]\n"

    run(body())


def test_root_at_home_is_the_default(sshd: Sshd, tmp_path: Path) -> None:
    async def body() -> None:
        async with session(sshd, tmp_path, ["sh", "-c", "id -u; pwd; echo $HOME"]) as client:
            assert await client.ended() == 0
            assert client.output() == b"0\n/root\n/root\n"

    run(body())


def test_a_terminal_has_the_size_and_takes_another(sshd: Sshd, tmp_path: Path) -> None:
    async def body() -> None:
        script = (
            "trap 'stty size; exit 5' WINCH; stty size; echo $TERM; while :; do sleep 0.1; done"
        )
        async with session(
            sshd,
            tmp_path,
            ["sh", "-c", script],
            tty=True,
            columns=101,
            rows=37,
            environment={"TERM": "vt100"},
        ) as client:
            await client.until(b"37 101\r\nvt100\r\n")
            await client.send(frames.resize(columns=55, rows=22))
            assert await client.ended() == 5
            assert b"22 55\r\n" in client.output()

    run(body())


def test_a_login_shell_in_a_terminal_with_its_control_characters(
    sshd: Sshd, tmp_path: Path
) -> None:
    async def body() -> None:
        async with session(sshd, tmp_path, None, tty=True, user="app") as client:
            await client.stdin(b"echo at $(pwd) as $(id -u)\n", end=False)
            await client.until(b"at /tmp as 64001")
            await client.stdin(b"sleep 1000\n", end=False)
            await client.until(b"sleep 1000\r\n")
            await asyncio.sleep(0.3)
            await client.stdin(b"\x03", end=False)
            await client.until(b"^C")
            await client.stdin(b"exit 4\n", end=False)
            assert await client.ended() == 4

    run(body())


@pytest.mark.parametrize(
    ("name", "code"), [("INT", 130), ("SIGTERM", 143), ("KILL", 137), ("HUP", 129)]
)
def test_signals_reach_the_command(sshd: Sshd, tmp_path: Path, name: str, code: int) -> None:
    async def body() -> None:
        async with session(sshd, tmp_path, ["sleep", "1000"]) as client:
            await client.send(Frame(FrameType.SIGNAL, name.encode()))
            assert await client.ended() == code

    run(body())


def test_a_command_may_handle_a_signal(sshd: Sshd, tmp_path: Path) -> None:
    async def body() -> None:
        script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
        async with session(sshd, tmp_path, ["sh", "-c", script]) as client:
            await client.until(b"ready\n")
            await client.send(Frame(FrameType.SIGNAL, b"TERM"))
            assert await client.ended() == 3
            assert client.output() == b"ready\nbye\n"

    run(body())


def test_a_command_whose_client_left_ends(sshd: Sshd, tmp_path: Path) -> None:
    async def body() -> None:
        async with session(sshd, tmp_path, ["sh", "-c", "echo here; sleep 4321"]) as client:
            await client.until(b"here\n")
            await client.stdin(b"x" * 1_000_000, end=False)
            client.close()
            for _ in range(100):
                if sshd.in_guest("pgrep", "-f", "sleep 4321").returncode == 1:
                    return
                await asyncio.sleep(0.1)
            raise AssertionError("the command still runs")

    run(body())


def test_unknown_programs_and_users(sshd: Sshd, tmp_path: Path) -> None:
    async def body() -> None:
        async with session(sshd, tmp_path, ["no-such-program"]) as client:
            assert await client.ended() == 127
            assert b"no-such-program" in client.output(FrameType.STDERR)
        async with session(sshd, tmp_path, ["true"], user="nobody-here") as client:
            assert await client.ended() == 126

    run(body())


def test_nothing_of_a_session_stays_in_the_guest(sshd: Sshd, tmp_path: Path) -> None:
    async def body() -> None:
        async with session(sshd, tmp_path, ["true"]) as client:
            assert await client.ended() == 0
        assert sshd.in_guest("ls", "/run/vmorch/exec").stdout == b""

    run(body())


def test_another_host_key_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    async def body() -> None:
        server = _server(sshd, tmp_path, sshd.keys.host_key("another").public)
        request = ExecRequest(
            domain="d", address="127.0.0.1", argv=("true",), tty=False, has_ssh=True
        )
        with pytest.raises(GuestError, match="another host key"):
            await server.open(request)
        assert not (tmp_path / "x").exists()

    run(body())


def test_a_key_stroke_comes_back_at_once(sshd: Sshd, tmp_path: Path) -> None:
    """Hundred echoes, each waited for: a poll anywhere on the way would show as its sum."""

    async def body() -> None:
        async with session(sshd, tmp_path, ["cat"]) as client:
            for number in range(100):
                await client.stdin(b"%d;" % number, end=False)
                await client.until(b"%d;" % number)
            await client.send(Frame(FrameType.STDIN_END))
            assert await client.ended() == 0

    run(body())


def test_commands_run_as_the_service(sshd: Sshd) -> None:
    argv = commands.as_service("probe", ["sh", "-c", "id -u; pwd; echo $COLOUR; exit 9"])
    done = sshd.in_guest(*argv)
    assert (done.returncode, done.stdout) == (9, b"64001\n/tmp\nblue\n")


def test_without_ssh_the_agent_runs_it_as_the_same_user(sshd: Sshd, tmp_path: Path) -> None:
    async def body() -> None:
        argv = ["sh", "-c", "id -u; pwd; echo oops >&2; exit 6"]
        async with session(
            sshd, tmp_path, argv, has_ssh=False, user="app", working_dir="/usr"
        ) as client:
            assert await client.ended() == 6
            assert client.output() == b"64001\n/usr\noops\n"

    run(body())


@pytest.mark.parametrize(("name", "code"), [("TERM", 143), ("INT", 130), ("KILL", 137)])
def test_signals_by_the_agent(sshd: Sshd, tmp_path: Path, name: str, code: int) -> None:
    async def body() -> None:
        async with session(sshd, tmp_path, ["sleep", "1000"], has_ssh=False) as client:
            await client.send(Frame(FrameType.SIGNAL, name.encode()))
            assert await client.ended() == code

    run(body())
