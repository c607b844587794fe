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


def test_shop(daemon: Any) -> None:
    shop = EXAMPLES / "shop"
    daemon.cli("up", cwd=shop, timeout=900)
    assert "<form" in fetch(daemon, "shop.localhost")
    made = json.loads(fetch(daemon, "shop.localhost", "/orders", b"item=teapot"))
    assert json.loads(fetch(daemon, "shop.localhost", "/orders")) == [made]
    assert made["item"] == "teapot"
    (instance,) = (row["instance"] for row in daemon.ps("-p", "shop") if row["service"] == "db")
    found = daemon.cli(
        *("-p", "shop", "exec", "-T", "--user", "postgres", instance),
        *("psql", "-h", "/tmp", "-Atc", "SELECT item FROM orders", "shop"),
    )
    daemon.cli("down", "-v", cwd=shop)
    assert found.stdout.strip() == "teapot"
