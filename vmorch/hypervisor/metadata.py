"""A guest's identity as an element of its domain's metadata, and back.

The namespace carries a version: a reader that does not know it sees no identity, and leaves
the domain alone.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import fields

from vmorch.hypervisor.protocol import GuestIdentity

NAMESPACE = "https://vmorch.dev/ns/domain/1"
PREFIX = "vmorch"

ET.register_namespace(PREFIX, NAMESPACE)


def identity_element(identity: GuestIdentity) -> ET.Element:
    element = ET.Element(f"{{{NAMESPACE}}}guest")
    for field in fields(GuestIdentity):
        element.set(field.name, str(getattr(identity, field.name)))
    return element


def parse_identity(text: str) -> GuestIdentity | None:
    """The identity in what libvirt returns for our namespace; None when it cannot be read."""
    try:
        attributes = ET.fromstring(text).attrib
        return GuestIdentity(
            owner=attributes["owner"],
            environment=attributes["environment"],
            service=attributes["service"],
            ordinal=int(attributes["ordinal"]),
            revision=int(attributes["revision"]),
            image=attributes["image"],
            boot=int(attributes["boot"]),
            subnet=attributes.get("subnet", ""),
        )
    except (ET.ParseError, KeyError, ValueError):
        return None
