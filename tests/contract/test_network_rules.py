"""nft and dnsmasq themselves judge what we would give them. Changes nothing on the host."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vmorch.model.addresses import allocate_network, service_address
from vmorch.model.instance import EnvironmentNetwork
from vmorch.model.names import Installation
from vmorch.network import dnsmasq
from vmorch.network.build import DEVICE, NAME_SERVER
from vmorch.network.rules import host_rules, router_rules, step_rules, without_table

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nft", path="/usr/sbin:/sbin"),
    reason="needs root and nft",
)
POOL = "10.213.0.0/16"
INSTALLATION = Installation("0a1b2c" + "0" * 26)


def network(*, internal: bool = False) -> EnvironmentNetwork:
    return allocate_network(
        "shop",
        used_indices=range(253),
        taken=(),
        outer_pool=POOL,
        inner="10.212.0.0/24",
        internal=internal,
    )


SERVICES = [service_address(network(), n) for n in (0, 1, 61)]
TEXTS = {
    "host": host_rules(INSTALLATION),
    "router": router_rules(network(), SERVICES, POOL),
    "router without services": router_rules(network(), [], POOL),
    "internal router": router_rules(network(internal=True), SERVICES, POOL),
    "step": step_rules(device=DEVICE, name_server=NAME_SERVER, closed=[POOL, "192.0.2.2"]),
    "step with overlaps": step_rules(
        device=DEVICE, name_server=NAME_SERVER, closed=[POOL, "10.213.254.0", "127.0.0.1", POOL]
    ),
    "removal": without_table("vmorch_0a1b2c"),
}


def nft(*words: str, stdin: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "--net", *words], input=stdin, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", TEXTS)
def test_nft_accepts_the_rules(name: str) -> None:
    done = nft("nft", "-c", "-f", "-", stdin=TEXTS[name])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["host", "router", "step"])
def test_loading_twice_is_loading_once(name: str) -> None:
    script = 'cat >"$0.nft"; nft -f "$0.nft"; nft list ruleset; echo --; nft -f "$0.nft"; '
    script += 'nft list ruleset; rm "$0.nft"'
    done = nft("sh", "-ec", script, f"/tmp/vmorch-rules-{os.getpid()}", stdin=TEXTS[name])
    once, twice = done.stdout.split("--\n")
    assert done.returncode == 0, done.stderr
    assert once == twice
    assert once.count("table ") == 1


@pytest.mark.parametrize("internal", [False, True])
def test_dnsmasq_accepts_its_configuration(tmp_path: Path, internal: bool) -> None:
    text = dnsmasq.config_text(network(internal=internal), tmp_path)
    (tmp_path / "x.conf").write_text(text)
    dnsmasq.write_file(tmp_path / "servers", dnsmasq.servers_text(["192.0.2.53"]))
    done = subprocess.run(
        ["/usr/sbin/dnsmasq", "--test", f"--conf-file={tmp_path / 'x.conf'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
