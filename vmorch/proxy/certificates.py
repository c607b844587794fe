"""The certificates that HAProxy presents: the operator's own, and for other hosts under
`.localhost` those of the local authority.

They are listed in a file for HAProxy, which finds the one for a client by the names in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
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


@dataclass(frozen=True, slots=True)
class _Given:
    """A file of the operator's: PEM of a private key, its certificate and the chain."""

    file: Path
    names: frozenset[str]

    def covers(self, host: str) -> bool:
        return host in self.names or f"*.{host.partition('.')[2]}" in self.names


class Certificates:
    """Those of a place. The operator's are in `given/*.pem` of its `tls_dir`."""

    def __init__(self, place: Place, clock: Clock) -> None:
        self._given = place.tls_dir / "given"
        self._issued = place.tls_dir / "issued"
        self._list = place.certificate_list
        self._authority = LocalAuthority(place.tls_dir)
        self._clock = clock
        self._last: tuple[object, str] | None = None
        self._usable: tuple[object, list[_Given]] = ((), [])

    def authority(self) -> str:
        """The local authority's certificate, PEM.

        Raises:
            ProxyError: it cannot be read or made.
        """
        return self._authority.certificate(self._clock.now())

    def ensure(self, hosts: Iterable[str]) -> str:
        """Have the certificates for these hosts listed. The digest of all that is in them;
        empty when there is none. Looks at the files only when something has changed, and daily.

        Raises:
            ProxyError: one cannot be written.
        """
        local = frozenset(filter(is_local, map(str.lower, hosts)))
        usable, stamps = self._given_ones()
        state = (local, stamps, self._clock.now() // _DAY_SECONDS, self._list.exists())
        if self._last is None or self._last[0] != state:
            self._last = (state, self._listed(usable, local))
        return self._last[1]

    def covers(self, host: str) -> bool:
        """Whether there is a certificate for a routed host; reads nothing for a local one."""
        return is_local(host) or any(item.covers(host) for item in self._given_ones()[0])

    def _given_ones(self) -> tuple[list[_Given], object]:
        """Those that can be used, read only when something has changed, and what tells that."""
        files = sorted(self._given.glob("*.pem"))
        stamps = tuple((file, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
        if self._usable[0] != stamps:
            self._usable = (stamps, [found for file in files if (found := _read(file))])
        return self._usable[1], stamps

    def _listed(self, usable: list[_Given], local: frozenset[str]) -> str:
        files = [item.file for item in usable]
        for host in sorted(local):
            if not any(item.covers(host) for item in usable):
                files.append(self._issued / f"{host}.pem")
                self._authority.issue(host, files[-1], self._clock.now())
        if not files:
            return ""
        self._write_list(files)
        for file in set(self._issued.glob("*.pem")) - set(files):
            file.unlink(missing_ok=True)
        return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]

    def _write_list(self, files: list[Path]) -> None:
        try:
            self._list.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._list.write_text("".join(f"{file}\n" for file in files))
        except OSError as error:
            raise ProxyError(f"{self._list} cannot be written: {error.strerror}.") from error


def _read(file: Path) -> _Given | None:
    """None where HAProxy would find nothing to use, and refuse all of its configuration."""
    try:
        content = file.read_bytes()
        key = load_pem_private_key(content, password=None)
        certificate = x509.load_pem_x509_certificate(content)
        if certificate.public_key() != key.public_key():
            raise ValueError("the private key is that of another certificate")
    except (OSError, TypeError, ValueError, UnsupportedAlgorithm) as error:
        log.warning("a certificate is left out", file=str(file), reason=str(error))
        return None
    return _Given(file, frozenset(_names(certificate)))


def _names(certificate: x509.Certificate) -> Iterator[str]:
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            yield from map(str.lower, extension.value.get_values_for_type(x509.DNSName))
