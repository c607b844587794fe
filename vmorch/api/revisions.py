"""Revisions of a service: finding one, and in what two of them differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from vmorch.api.services import ApiServices
from vmorch.errors import NotFound, Refused
from vmorch.model.instance import Revision
from vmorch.model.view.rollout import DifferenceView


async def find_revision(services: ApiServices, name: str, service: str, number: int) -> Revision:
    """Raises NotFound."""
    numbers = []
    for revision in await services.store.revisions(name):
        if revision.service == service:
            numbers.append(revision.number)
            if revision.number == number:
                return revision
    raise NotFound(
        f"'{service}' has no revision {number}.",
        hint=f"It has {', '.join(map(str, numbers)) or 'none'}.",
    )


async def revision_before(services: ApiServices, name: str, service: str, number: int) -> int:
    """The one that came before `number`. Raises NotFound (it is the first)."""
    numbers = [r.number for r in await services.store.revisions(name) if r.service == service]
    earlier = [n for n in numbers if n < number]
    if not earlier:
        raise NotFound(
            f"Revision {number} of '{service}' is its first.", hint="There is none to compare with."
        )
    return max(earlier)


async def refuse_without_image(services: ApiServices, revision: Revision) -> None:
    """Raises Refused: `vmorch image rm` or `prune` took it."""
    try:
        await services.images.manifest(revision.spec.image)
    except NotFound as error:
        raise Refused(
            f"The image of revision {revision.number} of '{revision.service}' is gone; "
            "nothing was changed.",
            hint="Name another revision with --to, or build it again with its file: 'vmorch up'.",
        ) from error


def differences(old: Revision, new: Revision) -> list[DifferenceView]:
    """In what going back from `new` to `old` would change something. Mappings key by key."""
    before, after = (_flat(asdict(spec)) for spec in (new.spec.back_to(old.spec), new.spec))
    return [
        DifferenceView(key=key, old=_text(before, key), new=_text(after, key))
        for key in sorted(before.keys() | after.keys())
        if _text(before, key) != _text(after, key)
    ]


def _flat(spec: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in spec.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": one for name, one in value.items()}
        else:
            flat[key] = value
    return flat


def _text(values: Mapping[str, Any], key: str) -> str | None:
    """None: it is not there."""
    if key not in values:
        return None
    return json.dumps(values[key], sort_keys=True, ensure_ascii=False)
