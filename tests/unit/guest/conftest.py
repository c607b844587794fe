from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from vmorch.guest.protocol import IdentityBundle

BUNDLE = IdentityBundle(
    instance_id="orders-3-1",
    cloud_instance_id="orders-3",
    host_name="orders-3",
    machine_id="0123456789abcdef0123456789abcdef",
    mac="52:54:00:00:00:40",
    address="10.212.0.64",
    prefix_length=24,
    gateway="10.212.0.1",
    name_servers=("10.212.0.1",),
    search_domain="shop.internal",
    ssh_host_key="-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    ssh_host_public_key="ssh-ed25519 AAAAhost",
    authorized_keys=("ssh-ed25519 AAAAclient vmorch",),
    random_seed=bytes(range(64)),
    argv=("python3", "/opt/orders/app.py"),
    environment={"DB_HOST": "db", "GREETING": "it's\nus"},
    user="www-data",
    working_dir="/opt/orders",
)


@pytest.fixture(scope="session")
def bundle() -> Callable[..., IdentityBundle]:
    """Makes a bundle that differs from a usual one by the given fields."""

    def changed(**changes: Any) -> IdentityBundle:
        return replace(BUNDLE, **changes)

    return changed
