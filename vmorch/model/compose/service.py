"""The keys of a service."""

from __future__ import annotations

from vmorch.model.compose.containers import ListOf
from vmorch.model.compose.forms import BYTES, COUNT, CPUS, DURATION, PATH, TEXT, Word
from vmorch.model.compose.objects import Either, Key, Object
from vmorch.model.compose.parts import refused
from vmorch.model.compose.parts.autoscale import AUTOSCALE
from vmorch.model.compose.parts.build import BUILD, IMAGE
from vmorch.model.compose.parts.cloud_init import CLOUD_INIT
from vmorch.model.compose.parts.deploy import DEPLOY, RESTART
from vmorch.model.compose.parts.environment import (
    DEPENDS_ON,
    ENV_FILE,
    ENVIRONMENT,
    EXTRA_HOSTS,
    LABELS,
)
from vmorch.model.compose.parts.health import HEALTHCHECK
from vmorch.model.compose.parts.networks import SERVICE_NETWORKS
from vmorch.model.compose.parts.ports import EXPOSE, PORTS
from vmorch.model.compose.parts.route import ROUTE
from vmorch.model.compose.parts.start import START
from vmorch.model.compose.parts.storage import BLKIO, CONFIGS, SECRETS, VOLUMES
from vmorch.model.compose.words import split_words

_COMMAND = Either(
    scalar=Word("a command", parse=split_words),
    items=ListOf(TEXT),
)
_USER = Word(
    "a user such as app or 1000:1000",
    r"[^\s:]{1,64}(?::[^\s:]{1,64})?",
    integers=range(2**32),
)
_PROFILE = Word("the name of a profile", r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")

SERVICE = Object(
    name="service",
    refused=refused.SERVICE,
    empty=True,
    keys={
        "image": Key(IMAGE, "A base such as debian:12, an image's name, or the name to build."),
        "build": Key(BUILD, "A directory with a Dockerfile."),
        "command": Key(_COMMAND, "Instead of the image's CMD."),
        "entrypoint": Key(_COMMAND, "Instead of the image's ENTRYPOINT; its CMD goes with it."),
        "user": Key(_USER, "Who the service runs as in the guest."),
        "working_dir": Key(PATH, "Where the service runs in the guest."),
        "environment": Key(ENVIRONMENT, "Variables of the service."),
        "env_file": Key(ENV_FILE, "Files of variables; 'environment' wins."),
        "expose": Key(EXPOSE, "TCP ports that other services reach."),
        "ports": Key(PORTS, "TCP ports that the host publishes."),
        "route": Key(ROUTE, "HTTP host names and paths that lead here."),
        "healthcheck": Key(HEALTHCHECK, "When an instance is ready."),
        "depends_on": Key(DEPENDS_ON, "Services that start before this one."),
        "deploy": Key(DEPLOY, "How many instances, under which caps."),
        "scale": Key(COUNT, "The same as deploy.replicas."),
        "cpus": Key(CPUS, "The same as deploy.resources.limits.cpus."),
        "mem_limit": Key(BYTES, "The same as deploy.resources.limits.memory."),
        "mem_reservation": Key(BYTES, "The same as deploy.resources.reservations.memory."),
        "restart": Key(RESTART, "When an instance is started again."),
        "disk": Key(BYTES, "The size of the system disk."),
        "cloud_init": Key(CLOUD_INIT, "User data for cloud-init."),
        "start": Key(
            START,
            "How instances come up.",
        ),
        "stop_grace_period": Key(DURATION, "Time to power off before the guest is ended."),
        "extra_hosts": Key(EXTRA_HOSTS, "Lines of /etc/hosts in the guest."),
        "labels": Key(LABELS, "Words of your own about the service."),
        "networks": Key(SERVICE_NETWORKS, "Only 'default' exists."),
        "profiles": Key(ListOf(_PROFILE), "The service is there only if one of them is asked for."),
        "autoscale": Key(AUTOSCALE, "How the number of instances follows the load."),
        "blkio_config": Key(BLKIO, "Limits for the disk."),
        "volumes": Key(VOLUMES, "Disks that outlive instances."),
        "secrets": Key(SECRETS, "Files with secrets in the guest."),
        "configs": Key(CONFIGS, "Files of configuration in the guest."),
    },
)
