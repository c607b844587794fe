"""The certificates that HAProxy presents: the operator's own, and for other hosts under
`.localhost` those of the local authority.

They are listed in a file for HAProxy, which finds the one for a client by the names in them, the
first of several. It refuses the whole of its configuration for one that it cannot use: such a file
is left out, and told of.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from vmorch.effects import Clock
from vmorch.errors import ProxyError
from vmorch.proxy.authority import LocalAuthority, is_local
from vmorch.proxy.place import Place

log = structlog.get_logger("vmorch.proxy")

_DAY_SECONDS = 86400.0
_WARNED_SECONDS = 30 * _DAY_SECONDS
# What ends a file's name in a list of HAProxy's.
_UNLISTED = re.compile(r"[\s\[\]]")

_Stamp = tuple[Path, int, int]
"""A file, when it was written and its size, both 0 where there is none."""


@dataclass(frozen=True, slots=True)
class _Given:
    """A file of the operator's: PEM of a private key, its certificate and the chain, until
    `ends_at`; or, with a `reason`, one that cannot be used."""

    file: Path
    names: frozenset[str] = frozenset()
    ends_at: float = 0.0
    reason: str = ""

    def covers(self, host: str) -> bool:
        return host in self.names or f"*.{host.partition('.')[2]}" in self.names

    def trouble(self, now: float) -> str:
        """What its operator should know; empty while all is well."""
        if self.reason:
            return f"{self.file} is left out: {self.reason}"
        left = self.ends_at - now
        if left <= 0:
            return f"{self.file} has expired"
        soon = left < _WARNED_SECONDS
        return f"{self.file} expires in {left / _DAY_SECONDS:.0f} days" if soon else ""


class Certificates:
    """Those of a place. The operator's are in `given/*.pem` of its `tls_dir`."""

    def __init__(self, place: Place, clock: Clock) -> None:
        self._given = place.tls_dir / "given"
        self._issued = place.tls_dir / "issued"
        self._list = place.certificate_list
        self._authority = LocalAuthority(place.tls_dir)
        self._clock = clock
        self._last: tuple[object, str] | None = None
        self._made: list[Path] = []
        self._found: tuple[tuple[_Stamp, ...], list[_Given]] = ((), [])
        self._told: set[str] = set()

    def authority(self) -> str:
        """The local authority's certificate, PEM.

        Raises:
            ProxyError: it cannot be read or made.
        """
        return self._authority.certificate(self._clock.now())

    def ensure(self, hosts: Iterable[str]) -> str:
        """Have the certificates for these hosts listed, as far as they can be had. The digest of
        all that is in them; empty when there is none. Looks into the files only when something has
        changed, and daily.

        Raises:
            ProxyError: the list cannot be written.
        """
        local = frozenset(filter(is_local, map(str.lower, hosts)))
        given, day = self._given_ones(), self._clock.now() // _DAY_SECONDS
        if self._last and self._last[0] == (local, day, self._stamps()):
            return self._last[1]
        troubles = {text for item in given if (text := item.trouble(self._clock.now()))}
        digest = self._listed([item for item in given if not item.reason], local, troubles)
        self._tell(troubles)
        # Where one could not be made it is tried again.
        complete = all(file.exists() for file in self._made)
        self._last = ((local, day, self._stamps()), digest) if complete else None
        return digest

    def covers(self, host: str) -> bool:
        """Whether there is a certificate for a routed host; reads nothing for a local one."""
        return is_local(host) or any(item.covers(host) for item in self._given_ones())

    def troubles(self) -> list[str]:
        """Of given certificates: which cannot be used, have expired, or will within a month."""
        now = self._clock.now()
        return [text for item in self._given_ones() if (text := item.trouble(now))]

    def _given_ones(self) -> list[_Given]:
        """Read only when something has changed."""
        stamps = tuple(map(_stamp, sorted(self._given.glob("*.pem"))))
        if self._found[0] != stamps:
            self._found = (stamps, [_read(file) for file, *_ in stamps])
        return self._found[1]

    def _stamps(self) -> tuple[_Stamp, ...]:
        """What tells that a file has changed since it was listed."""
        files = (self._authority.file, self._list, *self._made)
        return (*self._found[0], *map(_stamp, files))

    def _listed(self, given: list[_Given], local: frozenset[str], troubles: set[str]) -> str:
        """Those that have expired go last: they win over nothing, and are better than none."""
        now = self._clock.now()
        valid = [item for item in given if item.ends_at > now]
        self._made = [
            self._issued / f"{host}.pem"
            for host in sorted(local)
            if not any(item.covers(host) for item in valid)
        ]
        issued = [file for file in self._made if self._is_issued(file, troubles)]
        expired = [item.file for item in given if item.ends_at <= now]
        files = [*(item.file for item in valid), *issued, *expired]
        for file in set(self._issued.glob("*.pem")) - set(files):
            file.unlink(missing_ok=True)
        if not files:
            return ""
        self._write_list(files)
        return _digest(files)

    def _is_issued(self, file: Path, troubles: set[str]) -> bool:
        """Have one, or stay with an earlier one where the authority is in trouble."""
        try:
            self._authority.issue(file.stem, file, self._clock.now())
        except ProxyError as error:
            troubles.add(f"{file.stem}: {error.message}")
            return not _read(file).reason
        return True

    def _tell(self, troubles: set[str]) -> None:
        for text in sorted(troubles - self._told):
            log.warning("a certificate needs care", reason=text)
        self._told = troubles

    def _write_list(self, files: Sequence[Path]) -> None:
        try:
            self._list.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._list.write_text("".join(f"{file}\n" for file in files))
        except OSError as error:
            raise ProxyError(f"{self._list} cannot be written: {error.strerror}.") from error


def _stamp(file: Path) -> _Stamp:
    try:
        found = file.stat()
    except OSError:
        return file, 0, 0
    return file, found.st_mtime_ns, found.st_size


def _digest(files: Iterable[Path]) -> str:
    """Of their contents; of one that has just gone, of its going."""
    found = hashlib.sha256()
    for file in files:
        try:
            found.update(b"\0" + file.read_bytes())
        except OSError:
            found.update(b"\1")
    return found.hexdigest()[:16]


def _read(file: Path) -> _Given:
    try:
        if _UNLISTED.search(str(file)) or not str(file).isprintable():
            raise ValueError("HAProxy cannot be told a name with spaces or brackets")
        content = file.read_bytes()
        key = load_pem_private_key(content, password=None)
        certificate, *_ = x509.load_pem_x509_certificates(content)
        if certificate.public_key() != key.public_key():
            raise ValueError("the private key is that of another certificate")
        # What OpenSSL itself does not use, such as a key that is too short.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file, password="")
    except (OSError, TypeError, ValueError, UnsupportedAlgorithm) as error:
        return _Given(file, reason=str(error))
    return _Given(file, frozenset(_names(certificate)), certificate.not_valid_after_utc.timestamp())


def _names(certificate: x509.Certificate) -> Iterator[str]:
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            yield from map(str.lower, extension.value.get_values_for_type(x509.DNSName))
