"""Secrets and configs: where a declared one's content is, and the file that a service gets."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vmorch.model.compose.objects import Values
from vmorch.model.compose.parts.storage import Grant, Origin
from vmorch.model.compose.quantities import byte_text
from vmorch.model.compose.reading import did_you_mean, join
from vmorch.model.compose.resolve import Inputs
from vmorch.model.compose.storage_checks import MOST_CONTENT
from vmorch.model.spec import BuildSpec, DeclaredFile, GrantedFile

_DIRECTORIES = {"secrets": "/run/secrets/", "configs": "/"}


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass(slots=True)
class Contents:
    """The secrets and configs that a file declares; `contents` by digest, in base64."""

    declared: dict[str, dict[str, DeclaredFile]] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)

    def read(self, values: Values, inputs: Inputs) -> None:
        """Take every declared file's content. What is wrong goes to the inputs' reading."""
        for kind in _DIRECTORIES:
            self.declared[kind] = {
                name: self._declared(origin, f"{kind}.{name}", inputs)
                for name, origin in values.get(kind, {}).items()
            }

    def _declared(self, origin: Origin, path: str, inputs: Inputs) -> DeclaredFile:
        content = _content(origin, path, inputs)
        if len(content) > MOST_CONTENT:
            inputs.reading.add_at(path, f"It has more than {byte_text(MOST_CONTENT)}.")
        digest = digest_of(content)
        self.contents[digest] = base64.b64encode(content).decode()
        return DeclaredFile(digest=digest, file=origin.file, environment=origin.environment)

    def granted(self, values: Values, inputs: Inputs) -> dict[str, Any]:
        """The fields `secrets` and `configs` of a service's spec."""
        return {
            kind: tuple(self._granted(kind, values, inputs))
            for kind in _DIRECTORIES
            if kind in values
        }

    def _granted(self, kind: str, values: Values, inputs: Inputs) -> list[GrantedFile]:
        found: list[GrantedFile] = []
        for grant in values.get(kind):
            source = self.declared[kind].get(grant.source)
            if source is not None:
                found.append(_file(kind, grant, source.digest))
            else:
                self._missed(kind, grant.source, join(values.path, kind), inputs)
        return found

    def check_build(self, values: Values, inputs: Inputs) -> None:
        """Whether what the build of a service names is declared."""
        build = values.get("build")
        path = join(values.path, "build.secrets")
        secrets = build.secrets if isinstance(build, BuildSpec) else ()
        # A list with mistakes in it was read without them, so the places are not known any more.
        is_whole = not inputs.reading.touches(path)
        for index, secret in enumerate(secrets):
            if secret.source not in self.declared["secrets"]:
                where = f"{path}[{index}]" if is_whole else path
                self._missed("secrets", secret.source, where, inputs)

    def _missed(self, kind: str, source: str, path: str, inputs: Inputs) -> None:
        if not inputs.reading.touches(kind):
            near = did_you_mean(source, self.declared[kind])
            message = f"There is no {kind[:-1]} '{source}' under '{kind}'.{near}"
            inputs.reading.add_at(path, message)


def _content(origin: Origin, path: str, inputs: Inputs) -> bytes:
    if origin.file is not None:
        content = inputs.read_bytes(origin.file)
        if content is None:
            inputs.reading.add_at(f"{path}.file", f"The file '{origin.file}' cannot be read.")
        return content or b""
    if origin.environment is not None:
        return _variable(inputs.variables, origin.environment, path, inputs)
    return (origin.content or "").encode()


def _variable(variables: Mapping[str, str], name: str, path: str, inputs: Inputs) -> bytes:
    if name not in variables:
        inputs.reading.add_at(f"{path}.environment", f"The variable '{name}' is not set.")
    # As the command line's own environment holds bytes that are no text.
    return variables.get(name, "").encode(errors="surrogateescape")


def _file(kind: str, grant: Grant, digest: str) -> GrantedFile:
    target = grant.target or grant.source
    if not target.startswith("/"):
        target = _DIRECTORIES[kind] + target
    return GrantedFile(
        source=grant.source,
        target=target,
        digest=digest,
        uid=grant.uid,
        gid=grant.gid,
        mode=grant.mode,
    )
