"""`RUN --mount=…` (Docker's reference, "RUN --mount"): what is there for one step alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from vmorch.images.dockerfile.mistakes import Mistake, did_you_mean
from vmorch.images.dockerfile.values import number_of

_NAMES = {"dst": "target", "destination": "target", "src": "source", "readonly": "ro"}
_NAMES |= {"readwrite": "rw"}
_FLAGS = {"ro", "rw", "required"}
_KEYS = {
    "bind": {"target", "source", "from", "ro", "rw"},
    "cache": {"target", "id", "ro", "rw", "sharing", "mode", "uid", "gid"},
    "secret": {"target", "id", "required", "mode", "uid", "gid", "env"},
    "tmpfs": {"target", "size"},
}
_REFUSED = {
    "ssh": "an agent's socket is not handed to builds; use a secret",
}
_SHARING = ("shared", "private", "locked")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """As it was written, nothing substituted. `options` hold what has no field."""

    kind: str
    target: str = ""
    source: str = ""
    source_stage: str = ""
    writable: bool = False
    options: dict[str, str] = field(default_factory=dict)


def mount_of(text: str) -> Mount:
    """The value of one `--mount=`.

    Raises:
        Mistake: a key is unknown or missing, or the kind of mount is not supported.
    """
    values: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name = _NAMES.get(name.strip().lower(), name.strip().lower())
        if not equals and name in _FLAGS:
            value = "true"
        elif not equals or not value:
            raise Mistake(f"--mount: '{part}' is not of the form KEY=VALUE")
        if name in values:
            raise Mistake(f"--mount: '{name}' appears twice")
        values[name] = value
    kind = values.pop("type", "bind")
    if kind in _REFUSED:
        raise Mistake(f"--mount=type={kind}: {_REFUSED[kind]}")
    if kind not in _KEYS:
        raise Mistake(f"--mount=type={kind} is no kind of mount{did_you_mean(kind, _KEYS)}")
    for name in values:
        if name not in _KEYS[kind]:
            close = did_you_mean(name, _KEYS[kind])
            raise Mistake(f"--mount=type={kind} takes no '{name}'{close}")
    return _checked(kind, values)


def _checked(kind: str, values: dict[str, str]) -> Mount:
    for name in _FLAGS & values.keys():
        if values[name].lower() not in {"true", "false", "1", "0"}:
            raise Mistake(f"--mount: {name}={values[name]} is neither true nor false")
    target = values.get("target", "")
    if kind == "secret":
        if not target and not values.get("id"):
            raise Mistake("--mount=type=secret needs an id or a target")
    elif not target:
        raise Mistake(f"--mount=type={kind} needs a target")
    if values.get("sharing", "shared") not in _SHARING:
        raise Mistake(f"--mount: sharing={values['sharing']}; one of {', '.join(_SHARING)}")
    if "$" in values.get("from", ""):
        raise Mistake("from= takes no variables: name a stage with FROM $IMAGE AS NAME")
    for name in ("uid", "gid"):
        if number_of(values.get(name, "0")) is None and "$" not in values[name]:
            raise Mistake(f"--mount: {name}={values[name]} is no number")
    writable = _is_true(values.get("rw")) or (kind == "cache" and not _is_true(values.get("ro")))
    if writable and values.get("from"):
        raise Mistake("--mount=type=bind with from= is read-only; COPY --from what is to change")
    named = {"target", "source", "from", "ro", "rw"}
    return Mount(
        kind=kind,
        target=target,
        source=values.get("source", ""),
        source_stage=values.get("from", ""),
        writable=writable,
        options={name: value for name, value in values.items() if name not in named},
    )


def _is_true(text: str | None) -> bool:
    return text is not None and text.lower() in {"true", "1"}
