"""Rules, names and servers as text, and what is read from the host's own files."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from vmorch.errors import NetworkError
from vmorch.model.addresses import allocate_network
from vmorch.model.instance import EnvironmentNetwork
from vmorch.model.names import Installation
from vmorch.network import commands, dnsmasq, host, upstream
from vmorch.network.rules import host_rules, router_rules, step_rules

POOL = "10.213.0.0/16"


def network(*, internal: bool = False) -> EnvironmentNetwork:
    return allocate_network(
        "my_shop",
        used_indices=(),
        taken=(),
        outer_pool=POOL,
        inner="10.212.0.0/24",
        internal=internal,
    )


def test_only_an_internal_environment_refuses_the_whole_way_out() -> None:
    def way_out(internal: bool) -> str:
        text = router_rules(network(internal=internal), ["10.212.0.2"], POOL)
        return text.split("chain way_out {")[1].split("}\n")[0]

    assert "accept" in way_out(internal=False)
    assert POOL in way_out(internal=False)
    assert "accept" not in way_out(internal=True)


def test_equal_services_give_equal_rules_in_any_order() -> None:
    one = router_rules(network(), ["10.212.0.10", "10.212.0.2"], POOL)
    assert one == router_rules(network(), {"10.212.0.2", "10.212.0.10"}, POOL)
    assert "{ 10.212.0.2, 10.212.0.10 }" in one


def test_the_hosts_rules_name_only_our_own_interfaces() -> None:
    text = host_rules(Installation("0a1b2c" + "f" * 26))
    assert "table inet vmorch_0a1b2c" in text
    assert text.count("iifname") + text.count("oifname") == text.count('"0a1b2c-')


def test_overlapping_closed_networks_are_merged() -> None:
    text = step_rules(device="tap0", name_server="198.18.213.3", closed=["127.0.0.1", "10.1.2.3"])
    assert "127.0.0.1" not in text.replace("127.0.0.0/8", "")
    assert "10.1.2.3" in text


def test_names_get_the_environments_domain_and_the_full_one_comes_first() -> None:
    text = dnsmasq.hosts_text(
        "my_shop", {"db": ["10.212.0.10", "10.212.0.9"], "db.example": ["10.212.0.3"]}
    )
    assert text.splitlines() == [
        "10.212.0.9 db.my-shop.internal db",
        "10.212.0.10 db.my-shop.internal db",
        "10.212.0.3 db.example",
    ]


def test_a_configurations_file_name_tells_its_content(tmp_path: Path) -> None:
    one = dnsmasq.config_file(tmp_path, "abc-r1", "a\n")
    other = dnsmasq.config_file(tmp_path, "abc-r1", "b\n")
    assert one != other
    assert one.name.startswith("abc-r1.")


def test_a_file_is_written_once_and_readable_for_all(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    assert dnsmasq.write_file(path, "x\n")
    assert not dnsmasq.write_file(path, "x\n")
    assert dnsmasq.write_file(path, "y\n")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("y\n", 0o644)
    assert list(tmp_path.iterdir()) == [path]


def test_another_program_is_never_taken_for_our_name_server() -> None:
    assert not dnsmasq.runs(1, Path("/run/x.conf"))
    assert dnsmasq.running("no-such-namespace") == []


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nameserver 192.0.2.1\nnameserver 192.0.2.2 # x\n", ("192.0.2.1", "192.0.2.2")),
        ("# nameserver 192.0.2.1\nsearch lan\noptions ndots:1\n", ()),
        ("nameserver 127.0.0.53\nnameserver ::1\nnameserver fe80::1%eth0\nnameserver\n", ()),
        ("nameserver 192.0.2.1\nnameserver 192.0.2.1\n", ("192.0.2.1",)),
        ("nameserver 0.0.0.0\nnameserver 192.0.2\n", ()),
    ],
)
def test_name_servers_of_a_resolv_conf(text: str, servers: tuple[str, ...]) -> None:
    assert upstream.name_servers(text) == servers


def test_behind_a_stub_resolver_stand_the_real_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "_is_reachable", lambda server: server != "192.0.2.9")
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("nameserver 127.0.0.53\n")
    assert upstream.usable_servers((stub, real)) == ()
    real.write_text("nameserver 192.0.2.9\nnameserver 192.0.2.1\n")
    assert upstream.usable_servers((stub, real)) == ("192.0.2.1",)


def test_a_server_on_the_host_itself_is_not_usable(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 53))
        except OSError:
            pytest.skip("this machine has no route at all")
        own = probe.getsockname()[0]
    file = tmp_path / "resolv.conf"
    file.write_text(f"nameserver {own}\n")
    assert upstream.usable_servers((file,)) == ()


def test_a_missing_program_names_its_package() -> None:
    with pytest.raises(NetworkError, match="'dnsmasq-x' is not installed") as caught:
        commands.run(["dnsmasq-x"], purpose="try")
    assert "dnsmasq-x" in caught.value.hint


def test_what_a_program_says_reaches_the_reader() -> None:
    with pytest.raises(NetworkError, match="Could not try: 'sh' says: no way") as caught:
        commands.run(["sh", "-c", "echo no way >&2; exit 3"], purpose="try")
    assert caught.value.retryable


ROUTES = """[
 {"dst":"default","gateway":"192.0.2.1","dev":"eth0"},
 {"dst":"192.0.2.0/24","dev":"eth0"},
 {"dst":"10.213.0.0/24","dev":"0a1b2c-up0"},
 {"dst":"10.213.1.0/24","dev":"ffffff-up1"},
 {"type":"local","dst":"192.0.2.2","dev":"eth0","table":"local"},
 {"type":"local","dst":"127.0.0.0/8","dev":"lo","table":"local"},
 {"type":"broadcast","dst":"192.0.2.255","dev":"eth0","table":"local"},
 {"type":"blackhole","dst":"172.16.0.0/12"}]"""


def test_taken_subnets_are_all_but_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "run", lambda *_, **__: ROUTES)
    taken = host.taken_subnets(Installation("0a1b2c" + "0" * 26))
    assert taken == ["10.213.1.0/24", "172.16.0.0/12", "192.0.2.0/24", "192.0.2.2/32"]


CHAINS = """{"nftables":[{"metainfo":{}},
 {"chain":{"family":"ip","table":"filter","name":"FORWARD","hook":"forward","policy":"drop"}},
 {"chain":{"family":"ip","table":"filter","name":"DOCKER-USER"}},
 {"chain":{"family":"ip","table":"filter","name":"INPUT","hook":"input","policy":"accept"}},
 {"chain":{"family":"ip6","table":"filter","name":"INPUT","hook":"input","policy":"drop"}}]}"""


def test_dockers_closed_forwarding_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host, "run", lambda *_, **__: CHAINS)
    monkeypatch.setattr("shutil.which", lambda *_, **__: "/usr/sbin/x")
    monkeypatch.setattr(host, "usable_servers", lambda: ("192.0.2.1",))
    (problem,) = host.problems(Installation("0a1b2c" + "0" * 26))
    assert "ip filter FORWARD" in problem.message
    assert "iptables -I DOCKER-USER -i 0a1b2c-up+ -j ACCEPT" in problem.hint


def test_missing_programs_are_told_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda p, **__: None if p == "dnsmasq" else "/usr/sbin/x")
    (problem,) = host.problems(Installation("0a1b2c" + "0" * 26))
    assert problem.hint == "Install them: apt-get install dnsmasq-base"
