"""From an instance, its revision and its image to the identity bundle of its guest."""

from __future__ import annotations

import math
import uuid
from dataclasses import replace
from typing import Protocol

from vmorch.guest.protocol import GuestFile, GuestMount, IdentityBundle
from vmorch.model import addresses
from vmorch.model.image import RunConfig, process_arguments
from vmorch.model.instance import EnvironmentNetwork, Instance
from vmorch.model.names import host_name
from vmorch.model.spec import ServiceSpec


class HostKey(Protocol):
    @property
    def private(self) -> str: ...

    @property
    def public(self) -> str: ...


class InstanceKeys(Protocol):
    """Keys that vmorch makes for guests on the host (a guest under TCG needs seconds for one)."""

    @property
    def client_public(self) -> str:
        """The installation's public key, which may log in as root."""
        ...

    def host_key(self, instance_uuid: str) -> HostKey:
        """The ed25519 host key of an instance, the same on each call."""
        ...


def bundle_for(
    instance: Instance,
    *,
    boot: int,
    spec: ServiceSpec,
    image: RunConfig,
    network: EnvironmentNetwork,
    keys: InstanceKeys,
    random_seed: bytes,
    time_scale: float,
    files: tuple[GuestFile, ...] = (),
    mounts: tuple[GuestMount, ...] = (),
) -> IdentityBundle:
    """Pure but for `keys`. `random_seed` are 64 fresh bytes; `time_scale` is of `Acceleration`."""
    host_key = keys.host_key(instance.uuid)
    return replace(
        _nobody_s(spec, image, random_seed=random_seed, time_scale=time_scale),
        instance_id=f"{instance.uuid}-{boot}",
        cloud_instance_id=instance.uuid,
        host_name=host_name(instance.service, instance.ordinal),
        machine_id=uuid.UUID(instance.uuid).hex,
        mac=instance.mac,
        address=instance.inner_address,
        prefix_length=addresses.prefix_length(network),
        gateway=addresses.gateway(network),
        name_servers=(addresses.gateway(network),),
        ssh_host_key=host_key.private,
        ssh_host_public_key=host_key.public,
        authorized_keys=(keys.client_public,),
        extra_hosts=spec.extra_hosts,
        files=files,
        mounts=mounts,
    )


def blank_bundle(
    key: str,
    *,
    spec: ServiceSpec,
    image: RunConfig,
    with_service: bool,
    random_seed: bytes,
    time_scale: float,
) -> IdentityBundle:
    """Nobody's: for the guest of which the warm snapshot with that key is made."""
    bundle = _nobody_s(spec, image, random_seed=random_seed, time_scale=time_scale)
    return replace(
        bundle,
        instance_id=f"warm-{key[:32]}",
        cloud_instance_id=f"warm-{key[:32]}",
        machine_id=key[:32],
        argv=bundle.argv if with_service else (),
    )


def _nobody_s(
    spec: ServiceSpec, image: RunConfig, *, random_seed: bytes, time_scale: float
) -> IdentityBundle:
    """What all guests of a revision are given, templates and forks alike. The addresses are those
    that are kept for documentation (RFC 5737); there is no name server, so that questions fail at
    once."""
    return IdentityBundle(
        instance_id="nobody",
        cloud_instance_id="nobody",
        host_name="warm",
        machine_id="0" * 32,
        mac="52:54:00:00:00:01",
        address="192.0.2.1",
        prefix_length=24,
        gateway="192.0.2.254",
        name_servers=(),
        search_domain="",
        ssh_host_key="",
        ssh_host_public_key="none",
        authorized_keys=(),
        random_seed=random_seed,
        argv=process_arguments(spec, image),
        environment={**image.environment, **spec.environment},
        user=spec.user if spec.user is not None else image.user,
        working_dir=spec.working_dir or image.working_dir or "/",
        stop_signal=image.stop_signal,
        stop_seconds=max(1, math.ceil(spec.stop_grace_period_seconds * time_scale)),
        restart=spec.restart.condition,
        user_data=spec.cloud_init,
    )
