"""Of what there can be a warm snapshot, and the key under which it is found. Pure."""

from __future__ import annotations

import hashlib
import json

from vmorch.errors import Refused
from vmorch.model.image import ImageManifest, process_arguments
from vmorch.model.spec import ServiceSpec, StartPolicy

_VERSION = 1
"""Raise it when the same revision should come to another snapshot."""


def key_of(spec: ServiceSpec, fingerprint: str, digest: str = "") -> str:
    """The digest of all that a snapshot's RAM and disk depend on. Of the host-side keys only those
    that a guest's service manager was told at its boot. `digest` is the revision's, where it is
    known: to make it anew for each service in each cycle would be the dearest part of one."""
    parts = [_VERSION, spec.name, digest or spec.revision_digest(), fingerprint]
    parts += [spec.restart.condition, spec.stop_grace_period_seconds]
    text = json.dumps(parts, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def is_able(spec: ServiceSpec, image: ImageManifest) -> bool:
    """Whether its instances can be forked."""
    try:
        refuse_unable(spec, image)
    except Refused:
        return False
    return True


def refuse_unable(spec: ServiceSpec, image: ImageManifest) -> None:
    """Raises Refused: its instances cannot be forked.

    The guest's own units run in the template before there are volumes, secrets or an identity, and
    nothing starts them anew in a fork. Only `keep` says that they may go on so."""
    if spec.start is StartPolicy.COLD:
        raise Refused(
            f"The service '{spec.name}' has 'start: cold': its instances are never forked.",
            hint="Take 'start' out of its file, then run 'vmorch up'.",
        )
    if "agent" not in image.boot.supports:
        raise Refused(
            f"The image of '{spec.name}' has no guest agent, so no fork could be told who it is.",
            hint="'start: cold' says that it is meant so.",
        )
    if not process_arguments(spec, image.run) and not spec.keep_service:
        raise Refused(
            f"The service '{spec.name}' has no command, and what its guest runs by itself is not "
            "started anew in a fork.",
            hint="Give it a 'command', or 'start: {fork: {service: keep}}' ('vmorch help forks').",
        )
