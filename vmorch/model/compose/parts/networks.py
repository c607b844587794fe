"""`networks:`, of the file and of a service. An environment has one network, `default`."""

from __future__ import annotations

from vmorch.model.compose.containers import ListOf, MapOf
from vmorch.model.compose.forms import BOOLEAN, Word
from vmorch.model.compose.objects import Key, Object, Values
from vmorch.model.compose.parts import refused
from vmorch.model.compose.quantities import SUBNET_24
from vmorch.model.spec import NetworkSpec

_ONLY_DEFAULT = "'default', the one network that an environment has"


def _network(values: Values) -> NetworkSpec:
    subnets = values.get("ipam", [])
    return NetworkSpec(
        subnet=next((subnet for subnet in subnets if subnet), None),
        internal=values.get("internal", False),
    )


NETWORKS = MapOf(
    Object(
        name="network",
        empty=True,
        build=_network,
        refused=refused.NETWORK,
        keys={
            "internal": Key(BOOLEAN, "true: guests have no way to the outside."),
            "ipam": Key(
                Object(
                    name="ipam",
                    refused=refused.IPAM,
                    build=lambda values: values.get("config", []),
                    keys={
                        "config": Key(
                            ListOf(
                                Object(
                                    name="ipam_config",
                                    refused=refused.SUBNET,
                                    build=lambda values: values.get("subnet"),
                                    keys={
                                        "subnet": Key(
                                            Word("a network such as 10.1.2.0/24", SUBNET_24),
                                            "A /24 for the guests' addresses.",
                                        )
                                    },
                                )
                            ),
                            "One subnet.",
                        )
                    },
                ),
                "The addresses of the guests.",
            ),
        },
    ),
    "default",
    _ONLY_DEFAULT,
)
SERVICE_NETWORKS = MapOf(
    Object(
        name="service_network",
        empty=True,
        keys={},
        refused={
            "aliases": "a service is found by its own name.",
            "ipv4_address": "vmorch chooses the addresses of every instance.",
            "ipv6_address": "guests have IPv4 addresses only.",
            "mac_address": "vmorch chooses the addresses of every instance.",
            "priority": "there is one network.",
            "gw_priority": "there is one network.",
            "link_local_ips": "vmorch chooses the addresses of every instance.",
            "driver_opts": "there is one network.",
            "interface_name": "the guest's own name for its one interface stays.",
        },
    ),
    "default",
    _ONLY_DEFAULT,
    "",
)
