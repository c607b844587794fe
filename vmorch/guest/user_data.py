"""cloud-init's files: the user's data of any form beside ours, and the meta data.

Pure, but for reading our templates under `cloud-init/`. Ours is merged first. The first part
of the user's that is a cloud-config gets a merge header, without which cloud-init would let it
replace ours; between themselves the user's parts keep the meaning that cloud-init gives them.
"""

from __future__ import annotations

import base64
import hashlib
import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from email.mime.multipart import MIMEMultipart

from vmorch.errors import UsageError
from vmorch.resources import data_dir

MERGE_HEADER = "Merge-Type"
MERGE_TYPE = "list(append)+dict(recurse_list)+str()"
CLOUD_CONFIG = "text/cloud-config"
TEMPLATE = "text/jinja2"

# cloud-init's handlers/__init__.py, INCLUSION_TYPES_MAP. The longest match wins.
_BEGINNINGS = {
    "#include": "text/x-include-url",
    "#include-once": "text/x-include-once-url",
    "#!": "text/x-shellscript",
    "#cloud-config": CLOUD_CONFIG,
    "#part-handler": "text/part-handler",
    "#cloud-boothook": "text/cloud-boothook",
    "#cloud-config-archive": "text/cloud-config-archive",
    "#cloud-config-jsonp": "text/cloud-config-jsonp",
    "## template: jinja": TEMPLATE,
}
# Types that cloud-init takes for no statement and looks at the content instead.
_UNSTATED = frozenset({"text/plain", "text/x-not-multipart", "text/x-shellscript"})
_HEAD_BYTES = 4096  # how far cloud-init looks for the header of a multi-part message


@dataclass(frozen=True, slots=True)
class Part:
    """One part of user data. `headers` are the user's, without what the transport needs."""

    content_type: str
    content: bytes
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def kind(self) -> str:
        """The type as cloud-init will see it, without parameters."""
        stated = self.content_type.partition(";")[0].strip().lower()
        return (_type_of(self.content) or stated) if stated in _UNSTATED else stated


def user_data(user: str | None) -> bytes:
    """The file `user-data`: ours alone, or a multi-part message of ours and the user's.

    Raises:
        UsageError: the user's data has no form that cloud-init knows.
    """
    own = (data_dir("cloud-init") / "user-data.yaml").read_bytes()
    if user is None:
        return own
    return _multipart([Part(CLOUD_CONFIG, own), *_merging(parts(user))])


def meta_data(*, instance_id: str, host_name: str) -> bytes:
    """The file `meta-data`. Both values must be plain words, as `check.bundle` demands."""
    text = (data_dir("cloud-init") / "meta-data.yaml").read_text()
    return string.Template(text).substitute(instance_id=instance_id, host_name=host_name).encode()


def parts(user: str) -> tuple[Part, ...]:
    """The user's data as cloud-init will take it apart.

    Raises:
        UsageError: it has no form that cloud-init knows.
    """
    content = _encoded(user)
    if _is_multipart(content):
        leaves = (p for p in message_from_bytes(content).walk() if not p.is_multipart())
        return tuple(_part_of(leaf) for leaf in leaves)
    kind = _type_of(content)
    if kind is None:
        first = user.lstrip().partition("\n")[0][:60]
        raise UsageError(
            f"'cloud_init' begins with {first!r}, which cloud-init would ignore.",
            hint="Let it begin with #cloud-config, #!, #include or another of cloud-init's forms.",
        )
    return (Part(kind, content),)


def _encoded(user: str) -> bytes:
    try:
        return user.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"'cloud_init' is no text that can be written as UTF-8: {error}."
        ) from error


def _type_of(content: bytes) -> str | None:
    text = content.lstrip().lower()
    found = [start for start in _BEGINNINGS if text.startswith(start.encode())]
    return _BEGINNINGS[max(found, key=len)] if found else None


def _is_multipart(content: bytes) -> bool:
    head = content[:_HEAD_BYTES].lower()
    return _type_of(content) is None and b"mime-version:" in head


def _part_of(leaf: Message) -> Part:
    transport = {"content-type", "content-transfer-encoding", "mime-version"}
    payload = leaf.get_payload(decode=True)
    return Part(
        str(leaf.get("Content-Type", "text/plain")),
        payload if isinstance(payload, bytes) else b"",
        tuple((name, str(text)) for name, text in leaf.items() if name.lower() not in transport),
    )


def _merging(user_parts: Sequence[Part]) -> Iterator[Part]:
    waiting = True
    for part in user_parts:
        if waiting and part.kind in {CLOUD_CONFIG, TEMPLATE}:
            waiting = False
            yield _with_merge_header(part)
        else:
            yield part


def _with_merge_header(part: Part) -> Part:
    own = {MERGE_HEADER.lower(), f"x-{MERGE_HEADER}".lower()}
    if any(name.lower() in own for name, _ in part.headers):
        return part
    return Part(part.content_type, part.content, (*part.headers, (MERGE_HEADER, MERGE_TYPE)))


def _multipart(all_parts: Iterable[Part]) -> bytes:
    """The boundary comes from the contents, so that equal data gives equal bytes. Parts travel
    as base64, in which no line can be taken for a boundary or a header."""
    messages = [_message(part) for part in all_parts]
    digest = hashlib.sha256(b"\0".join(m.as_bytes() for m in messages)).hexdigest()
    whole = MIMEMultipart("mixed", boundary=f"vmorch-{digest[:32]}")
    for message in messages:
        whole.attach(message)
    return whole.as_bytes()


def _message(part: Part) -> Message:
    message = Message()
    message["Content-Type"] = part.content_type
    for name, text in part.headers:
        message[name] = text
    message["Content-Transfer-Encoding"] = "base64"
    message.set_payload(base64.encodebytes(part.content).decode())
    return message
