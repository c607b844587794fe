"""What `up`, `scale` and `down` would do, from the daemon, which is asked to change nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from vmorch.cli.output import print_json, print_table
from vmorch.errors import NotFound

if TYPE_CHECKING:
    from vmorch.client import Client
    from vmorch.model.spec import EnvironmentSpec, ServiceSpec
    from vmorch.model.view.environment import ServiceView
    from vmorch.model.view.step import StepView


def preview(
    client: Client, spec: EnvironmentSpec, *, partial: bool, by_hand: Collection[str] = ()
) -> list[StepView]:
    """The steps, with builds before everything else. What a build will give is not known before
    it is done: its service is compared as if it gave the image that runs now.

    Raises:
        Refused: it could not be applied, as another environment has what it needs.
    """
    from vmorch.model.view.step import StepView

    try:
        now: Mapping[str, ServiceView] = client.environment(spec.name).services
    except NotFound:
        now = {}
    builds, services = [], {}
    for name, service in spec.services.items():
        image, why = _image(client, service, now.get(name))
        services[name] = replace(service, image=image, build=None)
        if why:
            builds.append(StepView(action="build", subject=name, reason=why))
    guessed = spec.with_services(services)
    return [*builds, *client.preview(guessed, partial=partial, by_hand=by_hand)]


def show_steps(steps: list[StepView], output: str) -> None:
    if output == "json":
        print_json(steps)
        return
    rows = [(step.action, step.subject, step.reason) for step in steps]
    print_table(("ACTION", "SUBJECT", "WHY"), rows)


def _image(client: Client, service: ServiceSpec, now: ServiceView | None) -> tuple[str, str]:
    """The image as it is known before anything is built, and why something has to be built."""
    if service.build is not None:
        why = "unchanged steps come from the cache; a new image is a new revision"
        return (now.image if now else service.image), why
    try:
        return str(client.image(service.image)["digest"]), ""
    except NotFound:
        return service.image, f"there is no image '{service.image}' here yet"
