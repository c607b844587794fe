"""`build:` and `image:`."""

from __future__ import annotations

from vmorch.model.compose.containers import MapOf
from vmorch.model.compose.forms import TEXT, VALUE, Word
from vmorch.model.compose.nodes import Field, Fields, Node, Scalar
from vmorch.model.compose.objects import Key, Object, Values
from vmorch.model.compose.parts.storage import BUILD_SECRETS
from vmorch.model.compose.reading import Wrong
from vmorch.model.spec import BuildSpec

_NOT_BUILDKIT = "vmorch builds disk images by itself, without BuildKit."
_REFUSED = {
    "additional_contexts": "a build has one context; copy the files into it.",
    "cache_from": "the cache is the image store itself.",
    "cache_to": "the cache is the image store itself.",
    "entitlements": _NOT_BUILDKIT,
    "extra_hosts": "a build's network resolves names by the host's own resolver.",
    "isolation": "it is for Windows containers.",
    "labels": "write LABEL into the Dockerfile.",
    "network": "the daemon's setting 'build_network' decides on the network of all builds.",
    "no_cache": "use 'vmorch image build --no-cache'.",
    "no_cache_filter": "use 'vmorch image build --no-cache'.",
    "platforms": "images are for the host's own architecture.",
    "privileged": "steps run without the host's privileges.",
    "provenance": _NOT_BUILDKIT,
    "pull": "use 'vmorch image build --pull'.",
    "sbom": _NOT_BUILDKIT,
    "shm_size": "steps run in a plain namespace of the host.",
    "ssh": "the host's SSH agent is not shared with builds; give a key under 'secrets'.",
    "tags": "an image has the one name that 'image' gives.",
    "ulimits": "steps run under the host's own limits.",
}


def _short(node: Node) -> Node:
    if not isinstance(node, Scalar):
        return node
    return Fields(node.mark, {"context": Field(node.mark, node)}, node.tag)


def _build(values: Values) -> BuildSpec:
    if "dockerfile" in values and "dockerfile_inline" in values:
        mark = values.node.fields["dockerfile_inline"].key_mark
        raise Wrong("'dockerfile' and 'dockerfile_inline' exclude each other.", mark)
    return BuildSpec(
        context=values.get("context", "."),
        dockerfile=values.get("dockerfile", "Dockerfile"),
        dockerfile_inline=values.get("dockerfile_inline"),
        args=values.get("args", {}),
        target=values.get("target"),
        secrets=tuple(values.get("secrets", ())),
    )


def _directory(text: str) -> str:
    if "://" in text or text.startswith("git@"):
        raise ValueError("A build's context is a directory of this machine; fetch it first.")
    return text


_CONTEXT = Word("the path of a directory", r"[^\n]+", _directory)
_FILLED = Word("a text that is not empty", r"[\s\S]+")
IMAGE = Word("the name of an image", r"[^\s]+")
BUILD = Object(
    name="build",
    short=(_CONTEXT, _short),
    build=_build,
    refused=_REFUSED,
    keys={
        "context": Key(
            _CONTEXT, "Directory that is sent to the build, relative to the first file."
        ),
        "dockerfile": Key(_FILLED, "Path of the Dockerfile in the context."),
        "dockerfile_inline": Key(_FILLED, "The text of the Dockerfile itself."),
        "args": Key(
            MapOf(VALUE, r"[A-Za-z_][A-Za-z0-9_]*", "the name of an argument", "=", nullable=True),
            "Values for ARG; one without a value is taken from the environment of the command.",
        ),
        "target": Key(TEXT, "The stage to build."),
        "secrets": Key(BUILD_SECRETS, "Secrets that RUN --mount=type=secret may mount."),
    },
)
