"""`vmorch-guest exec` and `supervise`, compiled as a base has them and run on this host."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from vmorch.resources import data_dir

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


PASSWD = """root:x:0:0:root:/root:/bin/sh
app:x:1500:1501:An app:/srv/app:/bin/false
4242:x:1600:1600::/:/bin/false
"""
PLACES = {"STATE_FILE": "service.state", "LOG_PORT": "log", "CONSOLE": "console"}
GROUP = "root:x:0:\napp:x:1501:\nlog:x:1502:other,app\nend:x:1503:app\nnot:x:1504:apps\n"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guest") / "vmorch-guest"
    path.parent.chmod(0o755)
    (path.parent / "passwd").write_text(PASSWD)
    (path.parent / "group").write_text(GROUP)
    sources = sorted((data_dir("images") / "guest/src").glob("*.c"))
    flags = ["-std=c17", "-D_GNU_SOURCE", "-static", "-Os", "-Wall", "-Wextra", "-Werror"]
    flags.append(f'-DACCOUNTS="{path.parent}"')
    flags += [f'-D{name}="{path.parent}/{file}"' for name, file in PLACES.items()]
    flags += ["-DRESTART_MILLISECONDS=10", "-DSTOP_SECONDS=3600"]
    subprocess.run(["gcc", *flags, "-o", path, *sources], check=True)
    return path


def service(place: Path, argv: list[str], **files: bytes) -> Path:
    place.mkdir(exist_ok=True)
    (place / "argv").write_bytes(b"".join(word.encode() + b"\0" for word in argv))
    for name, content in files.items():
        (place / name.replace("_", "-")).write_bytes(content)
    return place


def run(program: Path, directory: Path) -> tuple[int, str, str]:
    """Under a caller that ignores and blocks signals and has variables of its own."""
    done = subprocess.run(
        [program, "exec", directory],
        capture_output=True,
        text=True,
        check=False,
        env={"SECRET_OF_THE_CALLER": "x", "PATH": "/nowhere"},
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    )
    return done.returncode, done.stdout, done.stderr


def test_environment_and_arguments_are_exactly_those_of_the_bundle(
    program: Path, tmp_path: Path
) -> None:
    entries = b"EMPTY=\0TEXT=two words\nand a line\0HOME=/srv\0broken\0"
    place = service(tmp_path / "s", ["env", "-0"], environment=entries)
    code, output, _ = run(program, place)
    values = dict(entry.split("=", 1) for entry in output.split("\0") if entry)
    assert code == 0
    assert set(values) == {"PATH", "HOME", "HOSTNAME", "EMPTY", "TEXT"}
    assert (values["TEXT"], values["EMPTY"]) == ("two words\nand a line", "")
    assert values["HOME"] == "/srv"
    assert values["PATH"].startswith("/usr/local/sbin:")
    code, output, _ = run(program, service(tmp_path / "a", ["printf", "[%s]", "a b", "", "c"]))
    assert (code, output) == (0, "[a b][][c]")


def test_a_path_of_the_bundle_decides_what_is_found(program: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/only-here").write_text("#!/bin/sh\necho found\n")
    (tmp_path / "bin/only-here").chmod(0o755)
    variables = f"PATH={tmp_path}/bin:/bin".encode()
    place = service(tmp_path / "s", ["only-here"], environment=variables)
    assert run(program, place)[:2] == (0, "found\n")


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        (b"", "0:0 0 /root"),
        (b"app", "1500:1501 1501 1502 1503 /srv/app"),
        (b"1500", "1500:1501 1501 1502 1503 /srv/app"),
        (b"app:log", "1500:1502 1502 /srv/app"),
        (b"app:", "1500:1501 1501 1502 1503 /srv/app"),
        (b":log", "0:1502 1502 /root"),
        (b"4711", "4711:0 0 /"),
        (b"4711:4712", "4711:4712 4712 /"),
        (b"4242", "1600:1600 1600 /"),
    ],
)
def test_users_are_those_of_a_dockerfile(
    program: Path, tmp_path: Path, user: bytes, ids: str
) -> None:
    line = "echo $(id -u):$(id -g) $(id -G) $HOME"
    place = service(tmp_path / "s", ["sh", "-c", line], user=user, directory=b"/")
    assert run(program, place)[:2] == (0, f"{ids}\n")


def test_signals_of_the_caller_do_not_stick(program: Path, tmp_path: Path) -> None:
    # A shell cannot trap what was ignored when it began.
    line = 'grep -E "^Sig(Ign|Blk)" /proc/self/status; trap "exit 9" TERM; kill -TERM $$'
    code, output, _ = run(program, service(tmp_path / "s", ["sh", "-c", line]))
    assert code == 9
    assert [text.split()[1] for text in output.splitlines()] == ["0" * 16, "0" * 16]


@pytest.mark.parametrize(
    ("argv", "files", "code", "said"),
    [
        (["no-such-program"], {}, 127, "cannot run 'no-such-program'"),
        (["/etc/passwd"], {}, 126, "Permission denied"),
        (["true"], {"user": b"ghost"}, 126, "no user 'ghost'"),
        (["true"], {"user": b"app:ghosts"}, 126, "no group 'ghosts'"),
        (["true"], {"directory": b"/no/such"}, 126, "working directory '/no/such'"),
        ([], {}, 127, "no service"),
    ],
)
def test_what_cannot_run_says_why(
    program: Path, tmp_path: Path, argv: list[str], files: dict[str, bytes], code: int, said: str
) -> None:
    ended, output, error = run(program, service(tmp_path / "s", argv, **files))
    assert (ended, output) == (code, "")
    assert said in error
    assert error.count("\n") == 1


@dataclass(frozen=True)
class Supervised:
    """`vmorch-guest supervise`, with what a guest has of it in files."""

    process: subprocess.Popen[bytes]
    place: Path

    def state(self) -> str:
        return read(self.place / "service.state")

    def log(self) -> str:
        """Without the times and the host's name."""
        lines = read(self.place / "log").splitlines(keepends=True)
        assert all(re.match(r"[0-9]+\.[0-9]{6} \S+ service: ", line) for line in lines)
        return "".join(line.partition(" service: ")[2] for line in lines)


@pytest.fixture
def supervise(program: Path) -> Iterator[Callable[[Path], Supervised]]:
    with contextlib.ExitStack() as stack:

        def start(directory: Path) -> Supervised:
            for file in PLACES.values():
                (program.parent / file).unlink(missing_ok=True)
            (program.parent / "log").touch()  # a port is there already
            process = subprocess.Popen([program, "supervise", directory])
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return Supervised(process, program.parent)

        yield start


LOOP = "while :; do sleep 0.01; done"


def test_a_supervised_service_is_restarted_on_demand_and_stopped_by_its_own_signal(
    supervise: Callable[[Path], Supervised], tmp_path: Path
) -> None:
    line = f'trap "echo int; exit 0" INT; echo start; {LOOP}'
    place = service(tmp_path / "s", ["sh", "-c", line], stop_signal=b"2")
    supervised = supervise(place)
    wait_for(supervised.log, "start\n")
    word, pid = supervised.state().split()
    assert (word, Path(f"/proc/{pid}/comm").read_text()) == ("active", "sh\n")
    supervised.process.send_signal(signal.SIGHUP)
    wait_for(supervised.log, "start\nint\nstart\n")
    supervised.process.terminate()
    assert supervised.process.wait(timeout=10) == 0
    assert supervised.log() == "start\nint\nstart\nint\n"


def test_a_service_that_ignores_its_signal_is_killed_when_its_time_is_over(
    supervise: Callable[[Path], Supervised], tmp_path: Path
) -> None:
    line = f'trap "" TERM; echo start; {LOOP}'
    supervised = supervise(service(tmp_path / "s", ["sh", "-c", line], stop_seconds=b"1"))
    wait_for(supervised.log, "start\n")
    supervised.process.terminate()
    assert supervised.process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    ("restart", "code", "state"),
    [("none", 3, "failed 3"), ("none", 0, "exited 0"), ("on-failure", 0, "exited 0")],
)
def test_a_supervised_service_that_has_ended_for_good_stays_so(
    supervise: Callable[[Path], Supervised], tmp_path: Path, restart: str, code: int, state: str
) -> None:
    argv = ["sh", "-c", f"echo run; exit {code}"]
    supervised = supervise(service(tmp_path / "s", argv, restart=restart.encode()))
    told = f"run\nvmorch: the service ended with exit code {code}\n"
    wait_for(supervised.state, f"{state}\n")
    assert supervised.log() == told
    console = read(supervised.place / "console")
    assert console == (read(supervised.place / "log") if code else "")
    # Only a new identity starts it again.
    supervised.process.send_signal(signal.SIGHUP)
    wait_for(supervised.log, told * 2)


@pytest.mark.parametrize("restart", ["any", "on-failure"])
def test_a_supervised_service_is_started_again(
    supervise: Callable[[Path], Supervised], tmp_path: Path, restart: str
) -> None:
    """The second run stays, so that the log says how many there were."""
    once = tmp_path / "once"
    line = f"echo run; [ -e {once} ] || {{ touch {once}; exit 3; }}; {LOOP}"
    place = service(tmp_path / "s", ["sh", "-c", line], restart=restart.encode())
    supervised = supervise(place)
    wait_for(supervised.log, "run\nvmorch: the service ended with exit code 3\nrun\n")
    assert supervised.state().startswith("active ")


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def wait_for(look: Callable[[], str], expected: str) -> None:
    limit = time.monotonic() + 10
    while look() != expected:
        assert time.monotonic() < limit, look()
        time.sleep(0.01)
