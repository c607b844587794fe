"""Images, and the story of a build, as the API shows them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageView:
    digest: str
    names: list[str]
    base: str
    size_bytes: int
    own_bytes: int
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerView:
    """One layer of an image, the base first. `cached`: the newest build of the image found it
    made already; `content` is the digest of its bytes ("" for a base)."""

    digest: str
    created_by: str
    created_at: float
    seconds: float
    size_bytes: int
    cached: bool
    content: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedLayerView:
    """`images` are the names, or else the digests, of those that stand on it."""

    digest: str
    reason: str
    images: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedView:
    """How many layers were looked at, how many of their bytes read, and what is damaged."""

    layers: int
    bytes_read: int
    damaged: list[DamagedLayerView]


@dataclass(frozen=True, slots=True, kw_only=True)
class FreedView:
    """What was taken away: names, digests of images and of layers, keys of warm snapshots, and the
    bytes freed."""

    names: list[str]
    images: list[str]
    layers: list[str]
    bytes_freed: int
    snapshots: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildLine:
    """One line of a build's story: step `number` of `total`. `state` is started, output, cached,
    done or failed; `text` is output or an error; `seconds` counts at the step's end."""

    step: str
    number: int
    total: int
    state: str
    text: str = ""
    seconds: float = 0.0
