"""Every example, as its reader would run it."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long

EXAMPLES = Path(__file__).parents[2] / "examples"


def fetch(daemon: Any, host: str, path: str = "/", data: bytes | None = None) -> str:
    """Through the proxy."""
    url = f"http://127.0.0.1:{daemon.settings.http_port}{path}"
    request = urllib.request.Request(url, headers={"Host": host}, data=data)
    with urllib.request.urlopen(request, timeout=60) as answer:
        body: bytes = answer.read()
    return body.decode()


def test_tiny(daemon: Any) -> None:
    daemon.cli("up", cwd=EXAMPLES / "tiny")
    answers = {fetch(daemon, "tiny.localhost") for _ in range(10)}
    daemon.cli("down", cwd=EXAMPLES / "tiny")
    page = (EXAMPLES / "tiny" / "page.txt").read_text()
    assert answers == {f"{page}web-1\n", f"{page}web-2\n"}


def test_cloud_init(daemon: Any) -> None:
    daemon.cli("up", cwd=EXAMPLES / "cloud-init")
    answer = fetch(daemon, "configured.localhost")
    daemon.cli("down", cwd=EXAMPLES / "cloud-init")
    assert answer == "configured by cloud-init\nweb-1\n"


def ordered(daemon: Any, name: str) -> str:
    """What the database of that shop holds, asked inside its guest."""
    (instance,) = (row["instance"] for row in daemon.ps("-p", name) if row["service"] == "db")
    found = daemon.cli(
        *("-p", name, "exec", "-T", "--user", "postgres", instance),
        *("psql", "-h", "/tmp", "-Atc", "SELECT item FROM orders", "shop"),
    )
    text: str = found.stdout.strip()
    return text


def test_two_shops_and_one_goes(daemon: Any) -> None:
    shop, items = EXAMPLES / "shop", {"shop": "teapot", "other": "kettle"}
    for name, item in items.items():
        daemon.cli("-p", name, "up", cwd=shop, timeout=1200)
        assert "<form" in fetch(daemon, f"{name}.localhost")
        made = json.loads(fetch(daemon, f"{name}.localhost", "/orders", f"item={item}".encode()))
        assert made["item"] == item
    for name, item in items.items():
        assert [o["item"] for o in json.loads(fetch(daemon, f"{name}.localhost", "/orders"))] == [
            item
        ]
        assert ordered(daemon, name) == item
    before = {row["instance"]: row["started_at"] for row in daemon.ps("-p", "other")}
    daemon.cli("-p", "shop", "down", "-v", cwd=shop)
    assert {row["instance"]: row["started_at"] for row in daemon.ps("-p", "other")} == before
    assert all(row["ready"] for row in daemon.ps("-p", "other"))
    assert ordered(daemon, "other") == "kettle"
    daemon.cli("-p", "other", "down", "-v", cwd=shop)
