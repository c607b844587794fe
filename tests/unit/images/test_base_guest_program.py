"""`vmorch-guest exec` and `supervise`, compiled as a base has them and run on this host."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from vmorch.resources import data_dir

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


PASSWD = """root:x:0:0:root:/root:/bin/sh
app:x:1500:1501:An app:/srv/app:/bin/false
4242:x:1600:1600::/:/bin/false
"""
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
    flags.append(f'-DSTATE_FILE="{path.parent}/service.state"')
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


def test_a_supervised_service_is_restarted_on_demand_and_stopped_by_its_own_signal(
    program: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    line = (
        f'echo start >>{trace}; trap "echo int >>{trace}; exit 0" INT; while :; do sleep 0.1; done'
    )
    place = service(tmp_path / "s", ["sh", "-c", line], stop_signal=b"SIGINT")
    supervisor = subprocess.Popen([program, "supervise", place])
    try:
        for signals, expected in (
            ((), ["start"]),
            ((signal.SIGHUP,), ["start", "int", "start"]),
            ((signal.SIGTERM,), ["start", "int", "start", "int"]),
        ):
            for number in signals:
                supervisor.send_signal(number)
            wait_for(trace, expected)
            time.sleep(0.3)  # the shell sets its trap after its first line
        assert supervisor.wait(timeout=10) == 0
    finally:
        supervisor.kill()
        supervisor.wait()


def test_a_supervised_service_with_restart_none_ends_once(program: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    argv = ["sh", "-c", f"echo run >>{trace}; exit 3"]
    place = service(tmp_path / "s", argv, restart=b"none")
    supervisor = subprocess.Popen([program, "supervise", place])
    try:
        wait_for(trace, ["run"])
        with pytest.raises(subprocess.TimeoutExpired):
            supervisor.wait(timeout=1.5)
        assert trace.read_text() == "run\n"
        supervisor.terminate()
        assert supervisor.wait(timeout=10) == 0
    finally:
        supervisor.kill()
        supervisor.wait()


def wait_for(trace: Path, expected: list[str]) -> None:
    limit = time.monotonic() + 10
    while not trace.exists() or trace.read_text().split() != expected:
        assert time.monotonic() < limit, trace.read_text() if trace.exists() else "nothing"
        time.sleep(0.02)
