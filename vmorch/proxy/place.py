"""Where one installation's HAProxy lives: its files, its sockets, its user, its HTTP address."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from vmorch.config import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """`config_dir` keeps the configuration, `run_dir` the sockets and the pid file; both are
    vmorch's alone. `http_address` and `http_port` are where routes are answered, `https_port`
    (0: nowhere) where they are by TLS. The workers
    run as `user` and `group`; the master stays root, for ports below 1024 and namespaces."""

    config_dir: Path
    run_dir: Path
    http_address: str = "127.0.0.1"
    http_port: int = 8080
    https_port: int = 0
    user: str = "haproxy"
    group: str = "haproxy"

    @classmethod
    def of(cls, settings: Settings) -> Place:
        return cls(
            config_dir=settings.proxy_dir,
            run_dir=settings.proxy_run_dir,
            http_address=settings.http_address,
            http_port=settings.http_port,
            https_port=settings.https_port,
        )

    @property
    def config_file(self) -> Path:
        return self.config_dir / "haproxy.cfg"

    @property
    def candidate_file(self) -> Path:
        """A configuration that HAProxy has not accepted yet."""
        return self.config_dir / "haproxy.cfg.new"

    @property
    def tls_dir(self) -> Path:
        """Certificates and their keys."""
        return self.config_dir / "tls"

    @property
    def certificate_list(self) -> Path:
        """One certificate's path a line, for HAProxy."""
        return self.tls_dir / "list"

    @property
    def admin_socket(self) -> Path:
        """The current worker's command line."""
        return self.run_dir / "admin.sock"

    @property
    def master_socket(self) -> Path:
        return self.run_dir / "master.sock"

    @property
    def call_socket(self) -> Path:
        """Where the daemon hears who is waited for."""
        return self.run_dir / "calls.sock"

    def gate_socket(self, backend: str) -> Path:
        """By which a leaving worker reaches the one after it; short, as a socket's path must be."""
        return self.run_dir / f"g-{hashlib.sha256(backend.encode()).hexdigest()[:8]}"

    def gate_sockets(self) -> list[Path]:
        return sorted(self.run_dir.glob("g-*"))

    @property
    def hold_program(self) -> Path:
        return self.config_dir / "hold.lua"

    @property
    def pid_file(self) -> Path:
        return self.run_dir / "haproxy.pid"
