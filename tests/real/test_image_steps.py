"""Mounts of RUN steps, files from URLs, and COPY --from by content: for real, without a guest."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from image_bench import Bench, bench_at, leftovers

from vmorch.errors import BuildFailed, InvalidSpec, NetworkError
from vmorch.images import fetching
from vmorch.images.bases import BaseCatalog
from vmorch.images.protocol import StepState
from vmorch.images.service import ImageService
from vmorch.images.writer import DEEPEST
from vmorch.model.stepnet import StepNetwork
from vmorch.resources import data_dir

SECRET = "kept-from-everybody"
SECRETS = {"token": base64.b64encode(f"{SECRET}\n".encode()).decode()}


@pytest.fixture
def bench(images_dir: Path, tmp_path: Path) -> Iterator[Bench]:
    yield from bench_at(images_dir, tmp_path)


# --- caches


def test_a_cache_is_kept_between_builds_and_stays_out_of_the_image(bench: Bench) -> None:
    step = "RUN --mount=type=cache,target=/var/cache/x,mode=0750,uid=33,gid=33"
    said = bench.output(
        f"FROM debian:12\n{step} stat -c '%a %u:%g' /var/cache/x; echo a > /var/cache/x/kept\n"
        "RUN ls -d /var/cache/x || echo gone"
    )
    assert said.splitlines() == [
        "750 33:33",
        "ls: cannot access '/var/cache/x': No such file or directory",
        "gone",
    ]
    said = bench.output(f"FROM tiny\n{step} cat /var/cache/x/kept; touch /var/cache/x/$RANDOM")
    assert said == "a"
    other = step.replace("type=cache", "type=cache,id=other")
    assert bench.output(f"FROM tiny\n{other} ls /var/cache/x; echo empty") == "empty"
    said = bench.output(
        f"FROM tiny\n{step.replace('mode', 'ro,mode')} touch /var/cache/x/y || echo ro"
    )
    assert said.splitlines()[-1] == "ro"


def test_locked_caches_are_one_at_a_time_and_private_ones_apart(bench: Bench) -> None:
    async def both(sharing: str) -> None:
        text = (
            "FROM tiny\nRUN --mount=type=cache,target=/c,id=SHARING,sharing=SHARING "
            "test ! -e /c/busy || echo NAME met another; touch /c/busy; sleep 1; rm -f /c/busy"
        ).replace("SHARING", sharing)
        await asyncio.gather(
            *(bench.build_async(text.replace("NAME", name), name=name) for name in ("a", "b"))
        )

    for sharing, met in (("shared", True), ("locked", False), ("private", False)):
        bench.told.clear()
        bench.runner.run(both(sharing))
        assert any("met another" in p.text for p in bench.told) is met, sharing


def test_prune_takes_caches_that_nobody_uses(bench: Bench) -> None:
    bench.build("FROM tiny\nRUN --mount=type=cache,target=/c echo x > /c/x")
    bench.runner.run(bench.service.prune({}, everything=False))
    assert list((bench.images / "cache").iterdir())
    freed = bench.runner.run(bench.service.prune({}, everything=True))
    assert list((bench.images / "cache").iterdir()) == []
    assert freed.bytes_freed > 0


# --- secrets


def test_a_secret_reaches_its_step_and_nothing_else(bench: Bench) -> None:
    text = (
        "FROM tiny\n"
        "RUN --mount=type=secret,id=token wc -c < /run/secrets/token; cat /run/secrets/token; "
        "stat -c '%a %u' /run/secrets/token; grep -c /run/secrets/token /proc/mounts\n"
        "RUN --mount=type=secret,id=token,target=/etc/token,mode=0444,uid=7 "
        "stat -c '%a %u' /etc/token\n"
        'RUN --mount=type=secret,id=token,env=TOKEN test -n "$TOKEN" && echo "<$TOKEN>"; ls /run\n'
        "RUN --mount=type=secret,id=absent ls /run/secrets || echo none\n"
        "RUN env; ls /run /etc/token || echo none"
    )
    said = bench.output(text, secrets=SECRETS)
    assert SECRET not in said
    lines = said.splitlines()
    assert lines[:4] == ["20", "***", "400 0", "1"]
    assert lines[4:6] == ["444 7", "<***"]
    assert said.count("none") == 2
    with pytest.raises(BuildFailed) as caught:
        bench.build(
            "FROM tiny\nRUN --mount=type=secret,id=token cat /run/secrets/token; exit 1",
            secrets=SECRETS,
        )
    assert caught.value.output == "***"
    found = subprocess.run(["grep", "-rl", SECRET, bench.images], capture_output=True, text=True)
    assert found.stdout == ""
    encoded = subprocess.run(["grep", "-rl", SECRETS["token"], bench.images], capture_output=True)
    assert encoded.stdout == b""


def test_a_secret_is_no_part_of_the_key_and_must_be_given_when_required(bench: Bench) -> None:
    text = "FROM tiny\nRUN --mount=type=secret,id=token,required=true test -s /run/secrets/token"
    first = bench.build(text, secrets=SECRETS)
    other = {"token": base64.b64encode(b"another").decode()}
    assert bench.build(text, secrets=other).digest == first.digest
    with pytest.raises(InvalidSpec, match="the secret 'token' is required"):
        bench.build(text)


# --- binds


def test_binds_show_the_context_and_images_and_leave_nothing(bench: Bench) -> None:
    bench.file("tree/deep/file", "content")
    bench.file("tree/tool", "#!/bin/sh\necho ran").chmod(0o755)
    bench.file("other", "not in the bind")
    text = (
        "FROM tiny AS made\nRUN mkdir /out && echo made > /out/x && ln -s /etc/hostname /out/link\n"
        "FROM debian:12\n"
        "RUN --mount=target=/src,source=tree cd /src; find . -type f | sort; ./tool; "
        "touch x 2>/dev/null || echo ro\n"
        "RUN --mount=target=/src,source=tree,rw echo new > /src/x; cat /src/x\n"
        "RUN --mount=from=made,source=/out,target=/made cat /made/x; readlink /made/link\n"
        "RUN --mount=from=tiny,source=/usr/lib/vmorch/busybox,target=/usr/local/bin/busybox "
        "busybox echo from-tiny\n"
        "RUN --mount=target=/f,source=other cat /f; echo\n"
        "RUN --mount=type=tmpfs,target=/t,size=1m dd if=/dev/zero of=/t/x bs=1k count=2000 "
        "2>/dev/null || echo full\n"
        "RUN ls /src /made /f /t /usr/local/bin 2>/dev/null; echo end"
    )
    said = bench.output(text).splitlines()
    assert said == [
        "./deep/file",
        "./tool",
        "ran",
        "ro",
        "new",
        "made",
        "/etc/hostname",
        "from-tiny",
        "not in the bind",
        "full",
        "/usr/local/bin:",
        "end",
    ]
    assert (bench.context / "tree/tool").read_text().startswith("#!")
    bench.file("other", "changed")
    bench.told.clear()
    bench.build(text)
    states = bench.states()
    assert states[next(step for step in states if "source=other" in step)] is StepState.DONE
    assert states[next(step for step in states if "./tool" in step)] is StepState.CACHED


def test_binds_lead_nowhere_else(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("a file of the host")
    (bench.context / "link").symlink_to(outside)
    (bench.context / "up").symlink_to("../../../../../../etc")
    said = bench.output(
        f"FROM tiny AS evil\nRUN ln -s {tmp_path} /door\nFROM tiny\n"
        f"RUN --mount=target=/c cat /c/link || echo nothing\n"
        "RUN --mount=target=/c ls /c/../..; ls -d /c/up/vmorch-none || echo nothing\n"
    )
    assert said.count("nothing") == 2
    assert "a file of the host" not in said
    for mount in ("source=link", "from=evil,source=/door/outside", "from=evil,source=/none"):
        with pytest.raises((InvalidSpec, BuildFailed)):
            bench.build(
                f"FROM tiny AS evil\nRUN ln -s {tmp_path} /door\nFROM tiny\n"
                f"RUN --mount={mount},target=/c true"
            )


def test_a_step_without_network(bench: Bench) -> None:
    said = bench.output("FROM tiny\nRUN --network=none grep -c : /proc/net/dev")
    assert said == "1"


# --- a full disk


@pytest.fixture
def small(images_dir: Path, tmp_path: Path) -> Iterator[Bench]:
    """A bench on a disk that has little more than room for its base."""
    disk, context = tmp_path / "disk", tmp_path / "context"
    disk.mkdir()
    context.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "small", disk], check=True)
    try:
        bases = disk / "images" / "bases"
        bases.mkdir(parents=True)
        (disk / "images").chmod(0o711)
        catalog = BaseCatalog(images_dir, data_dir("images"))
        base = asyncio.run(catalog.ensure("tiny", lambda progress: None))
        made = images_dir / Path(base.boot.kernel).parent
        subprocess.run(["cp", "-a", made, bases], check=True)
        bench = Bench(disk / "images", context)
        yield bench
        bench.runner.run(bench.service.close())
        bench.runner.close()
        assert leftovers(bench.images) == []
        assert list((bench.images / "tmp").iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_said_and_leaves_nothing(small: Bench) -> None:
    small.file("big", os.urandom(30 << 20))
    fill = "dd if=/dev/urandom of=PLACE/z bs=1M count=300"
    for step in (
        f"RUN {fill.replace('PLACE', '')}",
        # Whatever a step asks for: who asks first whether all was written may be the last one told.
        f"RUN {fill.replace('PLACE', '')}; sync -f /z; true",
        f"RUN --mount=target=/s,rw {fill.replace('PLACE', '/s')}",
        "\n".join(f"COPY big /{number}" for number in range(4)),
        f"RUN --mount=type=cache,target=/c {fill.replace('PLACE', '/c')}",
    ):
        with pytest.raises(BuildFailed, match="no room left on the disk of") as caught:
            small.build(f"FROM tiny\n{step}")
        assert "image prune --all" in caught.value.hint
    small.runner.run(small.service.prune({}, everything=True))
    assert small.output("FROM tiny\nRUN echo there is room") == "there is room"


# --- COPY --from by content


def test_what_did_not_change_is_not_copied_again(bench: Bench) -> None:
    text = (
        "FROM tiny AS made\nRUN echo WHAT > /noise; mkdir -p /out/d; echo same > /out/d/file\n"
        "FROM tiny\nCOPY --from=made /out /in\nRUN cat /in/d/file"
    )
    first = bench.build(text.replace("WHAT", "one"))
    bench.told.clear()
    again = bench.build(text.replace("WHAT", "two"))
    states = bench.states()
    assert states["COPY --from=made /out /in"] is StepState.CACHED
    assert again.digest == first.digest
    for change in (
        "same > /out/d/file; chmod 600 /out/d/file",
        "same > /out/d/other",
        "new > /out/d/file",
    ):
        changed = bench.build(
            text.replace("WHAT", "3")
            .replace("same > /out/d/file", change, 1)
            .replace("cat /in/d/file", "true")
        )
        assert changed.layers[1].digest != first.layers[1].digest


# --- what was built, and how deep it lies


def test_a_long_chain_goes_on_on_one_layer_that_holds_the_same(bench: Bench) -> None:
    count = DEEPEST + 3
    chain = "FROM tiny\nRUN mkdir /n\n" + "".join(
        f"RUN echo {n} > /n/{n}; rm -f /n/{n - 2}; echo {n} > /n/last\n" for n in range(count)
    )
    manifest = bench.build(chain)
    assert len(manifest.layers) < DEEPEST
    assert "layers as one" in manifest.layers[1].created_by
    history = bench.runner.run(bench.service.history("app"))
    assert [layer.cached for layer in history] == [True, *(False for _ in history[1:])]
    assert bench.build(chain).digest == manifest.digest
    assert all(layer.cached for layer in bench.runner.run(bench.service.history("app")))
    said = bench.output("FROM app\nRUN ls /n | sort -n; cat /n/last; test -x /bin/sh && echo whole")
    assert said.splitlines() == ["last", f"{count - 2}", f"{count - 1}", f"{count - 1}", "whole"]
    for layer in manifest.layers:
        path = bench.images / "layers" / f"{layer.digest.removeprefix('sha256:')}.qcow2"
        subprocess.run(["qemu-img", "check", "-q", path], check=True)


def test_two_builds_come_to_the_same_files(bench: Bench) -> None:
    bench.file("tree/file")
    text = (
        "FROM tiny\nCOPY tree /tree\nRUN date -d @$SOURCE_DATE_EPOCH > /when; stat -c %Y /tree/file"
    )
    args = {"SOURCE_DATE_EPOCH": "1700000000"}
    contents = []
    for name in ("one", "two"):
        said = bench.output(text, name=name, args=args, no_cache=True)
        assert said == "1700000000"
        contents.append(bench.runner.run(bench.service.content(name)))
    assert contents[0] == contents[1]
    bench.build(text, name="three", args={"SOURCE_DATE_EPOCH": "1"})
    assert bench.runner.run(bench.service.content("three")) != contents[0]


# --- files from URLs


class Server(http.server.BaseHTTPRequestHandler):
    content = b"from a server" * 1000
    hits: ClassVar[list[str]] = []
    slow: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        Server.hits.append(self.path)
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/moved"))
            self.end_headers()
            return
        if self.path == "/none":
            self.send_error(404)
            return
        if self.path in Server.slow:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.content)
            time.sleep(600)
        if self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(bytes(1 << 16))
        self.send_response(200)
        more = {"/short": 1, "/vast": 1 << 40}.get(self.path, 0)
        self.send_header("Content-Length", str(len(self.content) + more))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        Server.hits.clear()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@contextlib.asynccontextmanager
async def own_network() -> AsyncIterator[StepNetwork]:
    yield StepNetwork(namespace=Path(f"/proc/{os.getpid()}/ns/net"), resolv_conf="nameserver ::1\n")


def test_a_file_from_a_url(bench: Bench, server: str) -> None:
    digest = "sha256:" + hashlib.sha256(Server.content).hexdigest()
    catalog = BaseCatalog(bench.images, data_dir("images"))
    text = (
        f"FROM tiny\nADD --checksum={digest} {server}/moved/a%20file.tgz /srv/\n"
        f"ADD --checksum={digest} --chmod=644 {server}/other /srv/named\n"
        "RUN cd /srv; stat -c '%n %a %s' *"
    )
    offline = bench.service
    with pytest.raises(NetworkError, match="no network"):
        bench.build(text)
    bench.service = ImageService(bench.images, catalog, own_network)
    said = bench.output(text).splitlines()
    assert said[-2:] == ["a file.tgz 600 13000", "named 644 13000"]
    assert Server.hits == ["/moved/a%20file.tgz", "/a%20file.tgz"]  # the second was there already
    bench.service = offline
    bench.build(text)
    for path, checksum, fragment in (
        ("/x", "sha256:" + "0" * 64, "not what --checksum says"),
        ("/none", "sha256:" + "1" * 64, "404"),
        ("/short", "sha256:" + "2" * 64, "ended after 13000 of 13001"),
        ("/movedfile:///etc/passwd", "sha256:" + "3" * 64, "cannot be fetched"),
    ):
        bench.service = ImageService(bench.images, catalog, own_network)
        with pytest.raises((BuildFailed, NetworkError), match=fragment):
            bench.build(f"FROM tiny\nADD --checksum={checksum} {server}{path} /srv/x")


def test_a_url_that_gives_too_much(
    bench: Bench, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = BaseCatalog(bench.images, data_dir("images"))
    bench.service = ImageService(bench.images, catalog, own_network)
    text = f"FROM tiny\nADD --checksum=sha256:{'0' * 64} {server}"
    with pytest.raises(NetworkError, match=r"more than 17179869184 bytes, the size of the image"):
        bench.build(f"{text}/vast /x")
    free = shutil.disk_usage(bench.images).free
    monkeypatch.setattr(fetching, "_SPARED_BYTES", free - (5 << 20))
    with pytest.raises(NetworkError, match="and so many are free on the disk of") as caught:
        bench.build(f"{text}/endless /x")
    assert "room" in caught.value.hint
    monkeypatch.setattr(fetching, "_SPARED_BYTES", 2 * free)
    with pytest.raises(NetworkError, match="more than 0 bytes"):
        bench.build(f"{text}/small /x")


def test_a_disk_that_fills_while_a_url_is_fetched(
    small: Bench, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_SPARED_BYTES", -(1 << 40))
    catalog = BaseCatalog(small.images, data_dir("images"))
    small.service = ImageService(small.images, catalog, own_network)
    with pytest.raises(OSError, match="No space left"):
        small.build(f"FROM tiny\nADD --checksum=sha256:{'0' * 64} {server}/endless /x")


def test_a_death_while_a_url_is_fetched(
    bench: Bench, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = "sha256:" + hashlib.sha256(Server.content).hexdigest()
    text = f"FROM tiny\nADD --checksum={digest} {server}/slow /srv/x\nRUN wc -c < /srv/x"
    catalog = BaseCatalog(bench.images, data_dir("images"))
    monkeypatch.setattr(Server, "slow", {"/slow"})
    if not (child := os.fork()):
        bench.service = ImageService(bench.images, catalog, own_network)
        with contextlib.suppress(BaseException):
            asyncio.run(bench.build_async(text))
        os._exit(1)
    try:
        fetcher = wait_for_received(bench.images)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{fetcher}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{fetcher}").exists()
    Server.slow.clear()
    bench.service = ImageService(bench.images, catalog, own_network)
    bench.runner.run(bench.service.sweep())
    assert list((bench.images / "tmp").iterdir()) == []
    assert bench.output(text).splitlines()[-1] == f"{len(Server.content)}"


def wait_for_received(images: Path) -> int:
    """The id of the process that fetches, once a part of what it fetches is here."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        fetchers = [
            int(process.name)
            for process in Path("/proc").glob("[0-9]*")
            if b"worker.fetch" in (process / "cmdline").read_bytes()
        ]
        if fetchers and Server.hits and list((images / "tmp").glob("blob-*")):
            return fetchers[0]
        time.sleep(0.02)
    raise AssertionError("nothing was fetched")
