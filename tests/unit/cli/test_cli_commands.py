from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from vmorch.client import Client
from vmorch.images.protocol import DamagedLayer
from vmorch.model.codec import to_json
from vmorch.model.event import EventKind
from vmorch.model.instance import State
from vmorch.model.spec import EnvironmentSpec

Run = Callable[..., tuple[int, str, str]]

FILE = """\
name: demo
services:
  hello:
    build: ./hello
    expose: [8080]
    route: {host: "hello.${COMPOSE_PROJECT_NAME}.localhost"}
    deploy:
      replicas: 2
      resources: {limits: {cpus: "0.50", memory: 256M}}
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("VMORCH_FILE", "VMORCH_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "hello").mkdir()
    (tmp_path / "vmorch.yaml").write_text(FILE)
    (tmp_path / "hello" / "Dockerfile").write_text("FROM debian:12\nCOPY app /app\n")
    (tmp_path / "hello" / "app").write_text("an application\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(daemon: Any, *arguments: str) -> list[str]:
    socket = str(daemon.settings.socket)
    return [sys.executable, "-m", "vmorch.cli.main", "--socket", socket, *arguments]


def test_up_builds_applies_and_waits(run: Run, daemon: Any) -> None:
    code, out, err = run("up")
    assert code == 0
    rows = [line.split()[:6] for line in out.splitlines()]
    assert rows[1] == ["hello-1", "ready", "10.213.0.64", "1", "0.50", "256M"]
    urls = ["http://hello.demo.localhost:8080/", "https://hello.demo.localhost:8443/"]
    assert out.splitlines()[-2:] == [f"hello: {url}" for url in urls]
    assert "hello [1/1] RUN it" in err
    assert "\x1b" not in err + out
    (request,) = daemon.images.requests
    assert request.name == "demo-hello"
    assert b"an application\n" in daemon.images.blobs.values()


def test_ps_says_once_where_each_service_is_reached(run: Run) -> None:
    run("up")
    urls = ["http://hello.demo.localhost:8080/", "https://hello.demo.localhost:8443/"]
    assert run("ps")[1].splitlines()[3:] == [f"hello: {url}" for url in urls]
    assert run("ps", "-a")[1].splitlines()[3:] == [f"demo/hello: {url}" for url in urls]
    assert [row["urls"] for row in json.loads(run("ps", "-o", "json")[1])] == [urls, urls]


def test_up_without_a_build_takes_the_image_of_that_name(
    run: Run, daemon: Any, directory: Path
) -> None:
    run("up")
    (before,) = {row["image"] for row in json.loads(run("ps", "-o", "json")[1])}
    (directory / "hello" / "Dockerfile").write_text("FAIL\n")
    assert run("up", "--no-build")[0] == 0
    assert {row["image"] for row in json.loads(run("ps", "-o", "json")[1])} == {before}
    assert len(daemon.images.requests) == 1
    assert run("up", "--build")[0] == 1


SECRET = "hunter-two-and-twenty"
WITH_SECRETS = """\
name: demo
services:
  hello:
    build: {context: hello, secrets: [token, {source: variable, target: var}]}
    secrets: [given]
secrets:
  token: {file: ./token.txt}
  variable: {environment: VARIABLE}
  given: {file: ./given.txt}
"""


def traces(secret: str) -> list[str]:
    """What of a secret a reader could find: itself, encoded, in a dump, and what to guess by."""
    raw = secret.encode()
    digest = hashlib.sha256(raw).hexdigest()
    return [secret, base64.b64encode(raw).decode(), raw.hex().upper(), digest]


@pytest.mark.parametrize("arguments", [["up"], ["up", "--build"], ["image", "build"]])
def test_secrets_of_a_build_go_with_its_request_and_nowhere_else(
    run: Run,
    daemon: Any,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
) -> None:
    (directory / "vmorch.yaml").write_text(WITH_SECRETS)
    (directory / "token.txt").write_text(SECRET)
    (directory / "given.txt").write_text("for the guest")
    monkeypatch.setenv("VARIABLE", SECRET[::-1])
    specs: list[str] = []
    for name in ("apply", "preview"):
        monkeypatch.setattr(Client, name, recorded(getattr(Client, name), specs))
    with capture_logs() as logged:
        code, out, err = run(*arguments)
    assert code == 0, err
    (request,) = daemon.images.requests
    sent = {name: base64.b64decode(text).decode() for name, text in request.secrets.items()}
    assert sent == {"token": SECRET, "var": SECRET[::-1]}
    shown = [out, err, str(logged), repr(request), run("config")[1]]
    shown += [run("up", "--dry-run")[1], run("events")[1], *specs, *dump(daemon)]
    for trace in (*traces(SECRET), *traces(SECRET[::-1])):
        assert not [text for text in shown if trace in text]
    assert any(traces("for the guest")[1] in text for text in specs)  # so one would be found


def recorded(real: Callable[..., Any], specs: list[str]) -> Callable[..., Any]:
    """The call as it is, which also writes down the document of the environment that it sends."""

    def call(client: Client, spec: EnvironmentSpec, **more: Any) -> Any:
        specs.append(json.dumps(to_json(spec)))
        return real(client, spec, **more)

    return call


def dump(daemon: Any) -> list[str]:
    """All that the daemon's database holds."""

    async def read() -> list[str]:
        return list(daemon.store._db._connection.iterdump())

    found: list[str] = daemon.do(read())
    return found


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("./token.txt", "./nowhere", 7),
        ("VARIABLE", "NOWHERE", 8),
        ("[token,", "[tokne,", 4),
    ],
)
def test_without_a_secret_of_a_build_nothing_is_built(
    run: Run,
    daemon: Any,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    old: str,
    new: str,
    line: int,
) -> None:
    (directory / "vmorch.yaml").write_text(WITH_SECRETS.replace(old, new))
    (directory / "token.txt").write_text(SECRET)
    (directory / "given.txt").write_text("for the guest")
    monkeypatch.setenv("VARIABLE", SECRET)
    for arguments in (["up"], ["image", "build"]):
        code, _, err = run(*arguments)
        assert code == 3
        assert f"vmorch.yaml:{line}:" in err
    assert daemon.images.requests == []


def test_up_again_sends_nothing_new(run: Run, daemon: Any) -> None:
    run("up")
    blobs = dict(daemon.images.blobs)
    code, _, _ = run("up", "--scale", "hello=3")
    assert (code, daemon.images.blobs) == (0, blobs)
    assert len(json.loads(run("ps", "-o", "json")[1])) == 3


def test_json_is_alone_on_standard_output(run: Run) -> None:
    code, out, _ = run("up", "-o", "json")
    rows = json.loads(out)
    assert code == 0
    assert [row["instance"] for row in rows] == ["hello-1", "hello-2"]
    wanted = {"environment", "service", "instance", "state", "ready", "address", "revision"}
    wanted |= {"image", "cpus", "memory_bytes", "start", "started_at", "reason"}
    assert wanted <= rows[0].keys()
    for arguments in (["ps"], ["env", "ls"], ["image", "ls"], ["doctor"], ["version"]):
        json.loads(run(*arguments, "-o", "json")[1])


def test_detached_up_does_not_wait(run: Run, daemon: Any) -> None:
    daemon.converges = False
    assert run("up", "-d")[0] == 0
    assert run("wait", "--timeout", "0.01")[0] == 6


def test_a_failed_build_tells_place_output_and_exits_1(run: Run, directory: Path) -> None:
    (directory / "hello" / "Dockerfile").write_text("FAIL")
    code, out, err = run("up")
    assert (code, out) == (1, "")
    assert err.splitlines()[-2:] == ["  | no such thing", "error: Dockerfile:3: RUN it failed."]


def test_an_instance_that_fails_shows_its_console(run: Run, daemon: Any) -> None:
    daemon.final_state = State.FAILED
    daemon.write_log("demo", "hello-1", "kernel \x1b[31mpanic\n", name="console")
    code, _, err = run("up")
    assert code == 1
    assert "  | kernel panic" in err
    assert "error: hello-1 failed: because" in err


def test_not_ready_in_time_is_6_and_says_where_it_stands(run: Run, daemon: Any) -> None:
    daemon.final_state = State.STARTING
    code, _, err = run("up", "--timeout", "0.1")
    assert code == 6
    assert "hello-1 is starting (because)" in err


def test_down_waits_until_it_is_gone(run: Run) -> None:
    run("up")
    code, _, err = run("down")
    assert (code, err.splitlines()[-1]) == (0, "'demo' is gone.")
    assert run("down")[0] == 4
    assert run("ps")[:2] == (0, run("ps")[1])
    assert run("ps", "-p", "demo")[0] == 4


def test_scale_waits_for_the_new_count(run: Run) -> None:
    run("up")
    assert run("scale", "hello=4")[0] == 0
    assert len(json.loads(run("ps", "-o", "json")[1])) == 4
    assert run("scale", "nope=1")[0] == 4


def test_what_scales_by_itself_is_scaled_within_its_bounds(run: Run, directory: Path) -> None:
    autoscale = "    autoscale: {min: 1, max: 3, concurrency: 20}\n"
    (directory / "vmorch.yaml").write_text(FILE + autoscale)
    assert run("up")[0] == 0
    assert run("scale", "hello=3")[0] == 0
    assert run("up")[0] == 0
    assert len(json.loads(run("ps", "-o", "json")[1])) == 3, "not the 2 of the file"
    assert run("up", "--scale", "hello=1")[0] == 0
    assert len(json.loads(run("ps", "-o", "json")[1])) == 1
    for command in (
        ["scale", "hello=4"],
        ["scale", "hello=4", "--dry-run"],
        ["up", "--scale=hello=0"],
    ):
        code, _, err = run(*command)
        assert (code, "from 1 to 3 instances, so it cannot have" in err) == (7, True)


def test_root_options_and_commands_options_name_the_environment(run: Run) -> None:
    assert run("-p", "other", "up")[0] == 0
    assert [row["environment"] for row in json.loads(run("ps", "-a", "-o", "json")[1])] == [
        "other",
        "other",
    ]
    assert run("-p", "nope", "ps", "-p", "other")[0] == 0
    assert run("env", "rm", "other")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["bogus"], 2),
        (["ps", "--nope"], 2),
        (["scale", "hello"], 2),
        (["scale", "hello=-1"], 2),
        (["logs", "--since", "yesterday"], 2),
        (["logs", "-n", "x"], 2),
        (["up", "--scale", "nope=1"], 4),
        (["validate", "-f", "nope.yaml"], 4),
        (["logs"], 4),
        (["exec", "hello", "ls"], 4),
    ],
)
def test_exit_codes(run: Run, arguments: list[str], code: int) -> None:
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    first, *rest = err.splitlines()
    assert first.startswith("error: ")
    assert rest
    assert "Traceback" not in err


def test_an_invalid_file_lists_its_mistakes_and_exits_3(run: Run, directory: Path) -> None:
    (directory / "vmorch.yaml").write_text("services:\n  x:\n    imge: debian:12\n")
    for arguments in (["validate"], ["up"], ["config"]):
        code, out, err = run(*arguments)
        assert (code, out) == (3, "")
        assert "vmorch.yaml:3:5" in err
        assert "image" in err


def test_a_missing_dockerfile_is_an_invalid_spec(run: Run, directory: Path) -> None:
    (directory / "hello" / "Dockerfile").unlink()
    code, _, err = run("up")
    assert code == 3
    assert "hello/Dockerfile" in err


def test_no_daemon_is_5_and_reading_files_needs_none(run: Run, tmp_path: Path) -> None:
    nobody = ["--socket", str(tmp_path / "none")]
    for arguments in (["ps"], ["up"], ["down"], ["events"], ["daemon", "status"]):
        code, out, err = run(*nobody, *arguments)
        assert (code, out) == (5, "")
        assert "vmorch daemon start" in err
    assert run(*nobody, "validate")[0] == 0
    assert "replicas: 2" in run(*nobody, "config")[1]
    assert "not reachable" in run(*nobody, "version")[1]
    assert json.loads(run(*nobody, "daemon", "status", "-o", "json")[1])["running"] is False


def test_variables_come_from_dot_env_and_the_environment_wins(
    run: Run, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "vmorch.yaml").write_text(FILE.replace("replicas: 2", "replicas: $N"))
    (directory / ".env").write_text("N=3\n")
    assert "replicas: 3" in run("config")[1]
    monkeypatch.setenv("N", "4")
    assert "replicas: 4" in run("config")[1]


def test_config_prints_what_loads_again(run: Run, directory: Path) -> None:
    first = run("config")[1]
    (directory / "vmorch.yaml").write_text(first)
    assert run("config")[1] == first
    assert run("config", "--services")[1] == "hello\n"
    assert json.loads(run("config", "--schema")[1])["properties"]["services"]


def test_logs_are_prefixed_and_clean(run: Run, daemon: Any) -> None:
    daemon.write_log("demo", "hello-1", "1700000000.5 hello-1 app: \x1b]0;x\x07one\n")
    daemon.write_log("demo", "hello-10", "1700000001.5 hello-10 app: two\n")
    assert run("logs")[1] == "hello-1 | one\nhello-10 | two\n"
    assert run("logs", "--no-log-prefix", "-t", "hello-1")[1] == "2023-11-14T22:13:20.500Z one\n"
    rows = [json.loads(line) for line in run("logs", "-o", "json", "-n", "1")[1].splitlines()]
    assert [row["line"] for row in rows] == ["\x1b]0;x\x07one", "two"]


def test_events_follow_the_environment(run: Run) -> None:
    run("up")
    out = run("events")[1]
    assert "environment-applied" in out
    rows = [json.loads(line) for line in run("events", "-o", "json")[1].splitlines()]
    assert [row["kind"] for row in rows].count("instance-ready") == 2


def test_events_are_of_those_that_are_named(run: Run, daemon: Any) -> None:
    run("up")
    for name, service in (("hello-2", "hello"), ("db-1", "db")):
        daemon.do(
            daemon.store.add_event(
                EventKind.INSTANCE_DIED,
                f"{name} died",
                now=time.time() - 600,
                environment="demo",
                service=service,
                instance=name,
            )
        )

    def told(*words: str) -> list[str]:
        rows = map(json.loads, run("events", "-o", "json", *words)[1].splitlines())
        return [row["message"] for row in rows if row["kind"] == "instance-died"]

    assert told() == told("hello", "--service", "db") == ["hello-2 died", "db-1 died"]
    assert told("--service", "hello") == told("hello-2") == ["hello-2 died"]
    assert told("hello-1") == told("--since", "5m") == []
    assert told("--since", "11m", "db") == ["db-1 died"]


def test_events_are_followed_a_line_each_until_interrupted(run: Run, daemon: Any) -> None:
    run("up")
    words = command(daemon, "events", "-f", "--since", "0s", "--service", "db", "-o", "json")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        for service in ("hello", "db"):
            daemon.do(
                daemon.store.add_event(
                    EventKind.SERVICE_SCALED,
                    "Scaled.",
                    now=time.time() + 60,
                    environment="demo",
                    service=service,
                )
            )
        row = json.loads(follower.stdout.readline())
        assert (row["service"], row["kind"]) == ("db", "service-scaled")
        follower.send_signal(signal.SIGINT)
        assert follower.wait(10) == 130


def test_image_verify_names_what_is_damaged_and_is_1(run: Run, daemon: Any) -> None:
    assert run("image", "verify") == (0, "", "3 layers, 5M read, 0 damaged\n")
    hurt = DamagedLayer(digest="sha256:0123456789abcdef", reason="bits", images=("shop",))
    daemon.images.damaged.append(hurt)
    code, out, err = run("image", "verify")
    assert (code, out.splitlines()[1].split()) == (1, ["0123456789ab", "bits", "shop"])
    assert err.endswith("1 damaged\n")
    assert run("image", "verify", "other")[0] == 0
    (layer,) = json.loads(run("image", "verify", "shop", "-o", "json")[1])["damaged"]
    assert layer == {"digest": hurt.digest, "reason": "bits", "images": ["shop"]}


def test_image_build_and_ls(run: Run, directory: Path) -> None:
    assert json.loads(run("image", "build", "-o", "json")[1]).keys() == {"hello"}
    assert json.loads(run("image", "build", "-t", "x", "hello", "-o", "json")[1]).keys() == {"x"}
    assert run("image", "build", "nope")[0] == 4
    assert "debian-12" in run("image", "ls")[1]


def test_image_build_passes_arguments_and_secrets_to_the_builds_of_services(
    run: Run, daemon: Any, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = "{context: hello, args: {A: 1, B: 2}, secrets: [token]}"
    text = f"name: demo\nservices:\n  hello:\n    build: {given}\n  other:\n    build: hello\n"
    (directory / "vmorch.yaml").write_text(f"{text}secrets:\n  token: {{file: ./token.txt}}\n")
    (directory / "token.txt").write_text("of the file")
    monkeypatch.setenv("MORE", "more")
    options = ["--build-arg", "B=3", "--build-arg", "C=4", "--secret", "id=more,env=MORE"]
    assert run("image", "build", *options)[0] == 0
    one, other = daemon.images.requests
    assert (one.args, other.args) == ({"A": "1", "B": "3", "C": "4"}, {"B": "3", "C": "4"})
    assert {name: base64.b64decode(text) for name, text in one.secrets.items()} == {
        "token": b"of the file",
        "more": b"more",
    }
    assert other.secrets.keys() == {"more"}
    run("image", "build", "hello", "--secret", "id=token,env=MORE")
    assert base64.b64decode(daemon.images.requests[-1].secrets["token"]) == b"more"


@pytest.mark.parametrize("option", ["--target", "--dockerfile"])
def test_image_build_refuses_what_a_service_s_build_says_itself(
    run: Run, daemon: Any, option: str
) -> None:
    code, _, err = run("image", "build", option, "x")
    assert code == 2
    assert f"{option} goes with -t" in err
    assert daemon.images.requests == []


def test_doctor_fails_when_a_check_does(run: Run, daemon: Any) -> None:
    from vmorch.model.view import Check

    daemon.checks.append(Check(name="libvirt", ok=False, message="is ill", hint="Heal it."))
    code, out, _ = run("doctor")
    assert code == 1
    assert "FAIL  libvirt" in out
    assert "Heal it." in out
    assert "guests run under kvm: a kernel reached user space" in out
    assert out.count("libvirt  ") == 1  # the daemon's word stands in place of the host's


def test_help_needs_no_command_and_shows_examples(run: Run) -> None:
    before = set(sys.modules)
    code, out, _ = run("--help")
    assert code == 0
    assert not {m for m in set(sys.modules) - before if m.startswith("vmorch.cli.commands.")}
    for name in ("up", "down", "ps", "logs", "exec", "doctor", "daemon"):
        assert f"  {name} " in out
    for name in ("up", "logs", "exec", "scale"):
        assert "Examples:" in run(name, "--help")[1]


def test_no_command_shows_help_and_is_misuse(run: Run) -> None:
    for arguments in ((), ("env",)):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("Usage: vmorch")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("vmorch lo", ["logs"]),
        ("vmorch -p ot", ["other"]),
        ("vmorch logs hello-", ["hello-1", "hello-2"]),
        ("vmorch exec hel", ["hello", "hello-1", "hello-2"]),
        ("vmorch restart hello-1 hello-", ["hello-1", "hello-2"]),
        ("vmorch console hello-2", ["hello-2"]),
        ("vmorch cp hello-1", ["hello-1"]),
        ("vmorch port hel", ["hello"]),
        ("vmorch up hel", ["hello"]),
        ("vmorch help stat", ["states"]),
        ("vmorch help sto", ["stop"]),
        ("vmorch scale hel", ["hello="]),
        ("vmorch -p nope logs hel", []),
        ("vmorch -p nope logs -p other hel", ["hello", "hello-1", "hello-2"]),
        ("vmorch --socket none logs hel", []),
        ("vmorch env rm de", ["demo"]),
        ("vmorch ps -o j", ["json"]),
        ("vmorch daemon sta", ["start", "status"]),
    ],
)
def test_shells_complete_names(
    run: Run, monkeypatch: pytest.MonkeyPatch, line: str, found: list[str]
) -> None:
    run("up")
    run("-p", "other", "up")
    monkeypatch.setenv("_VMORCH_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    code, out, err = run()
    assert (code, out.split(), err) == (0, [f"plain,{name}" for name in found], "")


def test_every_shell_has_a_script_that_asks_vmorch(run: Run) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert f"_VMORCH_COMPLETE={shell}_complete" in run("completion", shell)[1]
    assert run("completion", "csh")[0] == 2


def test_the_light_path_imports_nothing_heavy(daemon: Any) -> None:
    heavy = "'rich', 'pygments', 'fastapi', 'pydantic', 'httpx', 'libvirt', 'yaml', 'asyncio'"
    script = (
        "import sys; from vmorch.cli.main import main; "
        f"code = main(['--socket', {str(daemon.settings.socket)!r}, 'ps', '-a']); "
        f"print(code, sorted({{{heavy}}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(daemon: Any) -> None:
    daemon.write_log("demo", "hello-1", "line\n" * 100_000)
    logs = subprocess.Popen(command(daemon, "logs"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert logs.stdout and logs.stderr
    logs.stdout.readline()
    logs.stdout.close()
    assert (logs.wait(20), logs.stderr.read()) == (141, b"")


def take_interrupts() -> None:
    """As in a terminal: what a shell starts in the background ignores them, and so do we then."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupt_cancels_the_build_and_exits_130(daemon: Any, directory: Path) -> None:
    (directory / "hello" / "Dockerfile").write_text("WAIT")
    up = subprocess.Popen(command(daemon, "up"), stderr=subprocess.PIPE, preexec_fn=take_interrupts)
    assert daemon.images.started.wait(20)
    up.send_signal(signal.SIGINT)
    _, err = up.communicate(timeout=20)
    assert up.returncode == 130
    assert b"Traceback" not in err
    assert daemon.images.cancelled.wait(10)


def test_a_terminal_sees_live_progress_and_then_the_table(daemon: Any) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execv(sys.executable, command(daemon, "up"))
    shown = b""
    with contextlib.suppress(OSError):  # EIO is how a pseudo terminal ends
        while data := os.read(terminal, 65536):
            shown += data
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown
    assert b"\x1b[?25l" in shown  # the cursor is hidden while it is drawn,
    assert shown.rindex(b"\x1b[?25h") < shown.index(b"INSTANCE ")  # and back before the table
    assert b"RUN it" in shown
    os.close(terminal)


def test_following_ends_cleanly_when_interrupted(daemon: Any) -> None:
    assert subprocess.run(command(daemon, "up"), check=True)
    daemon.write_log("demo", "hello-1", "a\n")
    logs = subprocess.Popen(
        command(daemon, "logs", "-f"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=take_interrupts,
    )
    assert logs.stdout
    assert logs.stdout.readline() == b"hello-1 | a\n"
    os.kill(logs.pid, signal.SIGINT)
    _, err = logs.communicate(timeout=20)
    assert (logs.returncode, err.strip()) == (130, b"")


def test_a_bug_is_one_line_unless_debug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no")

    monkeypatch.setattr("vmorch.client.Client.environments", broken)
    code, _, err = run("env", "ls")
    assert code == 1
    assert err.splitlines()[0] == "error: vmorch failed unexpectedly: ZeroDivisionError: no"
    with pytest.raises(ZeroDivisionError):
        run("--debug", "env", "ls")
