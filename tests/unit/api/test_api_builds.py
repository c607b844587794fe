from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from vmorch.client import Client
from vmorch.errors import BuildFailed, NotFound, UsageError
from vmorch.model.view.image import BuildLine


def request(dockerfile: str = "FROM debian:12\n") -> dict[str, Any]:
    return {
        "name": "hello",
        "dockerfile": dockerfile,
        "dockerfile_name": "Dockerfile",
        "context": [{"path": "a", "kind": "file", "mode": 420, "digest": "x", "size": 1}],
    }


@pytest.fixture
def client(daemon: Any) -> Client:
    return Client(daemon.settings.socket)


def send(client: Client, digest: str, path: Path) -> None:
    with path.open("rb") as content:
        client.put_blob(digest, content)


def test_blobs_are_streamed_into_the_store(daemon: Any, client: Client, tmp_path: Path) -> None:
    data = b"x" * 3_000_000
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    (tmp_path / "a").write_bytes(data)
    assert client.missing_blobs([digest]) == [digest]
    send(client, digest, tmp_path / "a")
    assert daemon.images.blobs[digest] == data
    assert client.missing_blobs([digest]) == []
    assert list((daemon.settings.images_dir / "tmp").iterdir()) == []


def test_a_blob_with_another_content_leaves_nothing_behind(
    daemon: Any, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(UsageError):
        send(client, "sha256:" + "0" * 64, tmp_path / "a")
    assert list((daemon.settings.images_dir / "tmp").iterdir()) == []


@pytest.mark.parametrize("digest", ["sha256:00", "md5:" + "0" * 64, "..%2f..%2fetc"])
def test_what_is_no_digest_is_refused(client: Client, tmp_path: Path, digest: str) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises((UsageError, NotFound)):
        send(client, digest, tmp_path / "a")


def test_a_build_tells_its_story_and_gives_a_digest(daemon: Any, client: Client) -> None:
    lines: list[BuildLine] = []
    digest = client.build(request(), lines.append)
    assert digest.startswith("sha256:")
    assert [line.state for line in lines] == ["started", "output", "done"]
    assert daemon.images.requests[0].context[0].path == "a"


def test_a_failed_step_is_raised_with_place_and_output(client: Client) -> None:
    lines: list[BuildLine] = []
    with pytest.raises(BuildFailed) as caught:
        client.build(request("FAIL"), lines.append)
    assert (caught.value.file, caught.value.line) == ("Dockerfile", 3)
    assert caught.value.output == "no such thing"
    assert lines


def test_a_client_that_goes_away_cancels_its_build(daemon: Any, client: Client) -> None:
    def leave(_: BuildLine) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.build(request("WAIT"), leave)
    assert daemon.images.cancelled.wait(10)


def test_ensure_finds_bases_and_says_when_there_is_none(client: Client) -> None:
    assert client.ensure_image("debian:12", lambda _: None).startswith("sha256:")
    with pytest.raises(NotFound) as caught:
        client.ensure_image("nothing", lambda _: None)
    assert caught.value.hint == "Try debian:12."


def test_a_malformed_request_is_named(client: Client) -> None:
    with pytest.raises(UsageError, match="dockerfile"):
        client.build({"name": "x"}, lambda _: None)


def test_images_are_listed(client: Client) -> None:
    client.build(request(), lambda _: None)
    (image,) = client.images()
    assert image.names == ["hello"]
