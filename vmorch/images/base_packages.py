"""Debian packages for bases, by mmdebstrap: it brings apt, the archive's keys and the chroot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vmorch.errors import BuildFailed
from vmorch.images.base_definition import BaseDefinition
from vmorch.images.base_process import Say, run
from vmorch.model.stepnet import outside

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_TARGETS = "$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)"
_HOST_OPTION = re.compile(
    r"Acquire::(https?::|Retries|Check-Valid-Until|Check-Date|ForceIPv)", re.IGNORECASE
)
# Runs on the host with apt pointed into the new root. The kernel is unpacked by us and not
# installed: its scripts would build an initramfs that nobody boots.
_KERNEL_HOOK = """#!/bin/sh
set -eu
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
cd "$VMORCH_DEBS"
image=$(apt-cache depends -i "$VMORCH_KERNEL" | sed -n 's/^ *Depends: \\(linux-image-.*\\)/\\1/p')
apt-get -q -o APT::Sandbox::User=root download "$VMORCH_KERNEL" $image
apt-get -q -s -o APT::Install-Recommends=false install $VMORCH_PACKAGES |
    sed -n 's/^Inst \\([^ ]*\\) (\\([^ ]*\\) .*/\\1 \\2/p' >"$VMORCH_DEBS/solution"
"""
_CANDIDATES_HOOK = """#!/bin/sh
set -eu
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
xargs apt-cache show --no-all-versions <"$VMORCH_DEBS/wanted" >"$VMORCH_DEBS/candidates"
"""
_OPTIONS_HOOK = 'cat "$VMORCH_DEBS/apt.conf" >>"$MMDEBSTRAP_APT_CONFIG"'


@dataclass(frozen=True, slots=True)
class PackageSource:
    """Fetches packages in the network namespace `outside_netns` (a path; empty: our own)."""

    outside_netns: str

    async def unpack(
        self, definition: BaseDefinition, root: Path, debs: Path, say: Say
    ) -> dict[str, str]:
        """Install or extract the definition's packages into `root`, and leave the kernel's
        packages in `debs`. Returns the versions of all of them by name.

        Raises:
            BuildFailed: a package cannot be fetched or installed.
        """
        variant = "extract" if definition.method == "extract" else "minbase"
        options = [f"--include={','.join(definition.packages)}"]
        options += [f"--dpkgopt=path-exclude={pattern}" for pattern in definition.excluded]
        options += [f'--customize-hook=chroot "$1" {line}' for line in definition.commands]
        await self._mmdebstrap(
            [f"--variant={variant}", *options],
            hook=_KERNEL_HOOK,
            suite=definition.suite,
            root=root,
            debs=debs,
            say=say,
            variables={
                "VMORCH_KERNEL": definition.kernel,
                "VMORCH_PACKAGES": " ".join(definition.packages),
            },
        )
        versions = await self._installed(definition, root, debs, say)
        for deb in sorted(debs.glob("*.deb")):
            (field,) = await run(
                ["dpkg-deb", "--show", "--showformat=${Package} ${Version}\n", deb], say=_silent
            )
            versions |= _versions([field])
        return versions

    async def candidates(
        self, suite: str, names: Iterable[str], work: Path, say: Say
    ) -> dict[str, str]:
        """The versions that the archive would give today for `names`."""
        (work / "wanted").write_text("\n".join(names))
        await self._mmdebstrap(
            ["--variant=extract"],
            hook=_CANDIDATES_HOOK,
            suite=suite,
            root=work / "root",
            debs=work,
            say=say,
            variables={},
        )
        text = (work / "candidates").read_text()
        pairs = re.findall(r"^Package: (\S+)$.*?^Version: (\S+)$", text, re.MULTILINE | re.DOTALL)
        return dict(pairs)

    async def kernel(self, definition: BaseDefinition, work: Path, say: Say) -> None:
        """Leave the definition's kernel packages, and nothing else, in `work`."""
        await self._mmdebstrap(
            ["--variant=extract"],
            hook=_KERNEL_HOOK,
            suite=definition.suite,
            root=work / "root",
            debs=work,
            say=say,
            variables={"VMORCH_KERNEL": definition.kernel, "VMORCH_PACKAGES": ""},
        )

    async def _installed(
        self, definition: BaseDefinition, root: Path, debs: Path, say: Say
    ) -> dict[str, str]:
        if definition.method == "extract":
            return _versions((debs / "solution").read_text().splitlines())
        status = f"--admindir={root}/var/lib/dpkg"
        query = ["dpkg-query", status, "-W", "-f=${Package} ${Version}\n"]
        return _versions(await run(query, say=_silent))

    async def _mmdebstrap(
        self,
        options: Sequence[str],
        *,
        hook: str,
        suite: str,
        root: Path,
        debs: Path,
        say: Say,
        variables: dict[str, str],
    ) -> None:
        _check_keyring()
        debs.mkdir(parents=True, exist_ok=True)
        (debs / "apt.conf").write_text(await _host_options())
        script = debs / "hook"
        script.write_text(hook)
        script.chmod(0o755)
        # Namespaces of its own: whatever a package's script starts, and every mount, ends with
        # the build, also when we are killed.
        isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        await run(
            [
                *outside(self.outside_netns, *isolated),
                *("mmdebstrap", "--mode=root", "--format=directory"),
                f"--setup-hook={_OPTIONS_HOOK}",
                f"--extract-hook={script}",
                *options,
                suite,
                str(root),
                *await _host_sources(suite),
            ],
            say=say,
            hint="The packages come from where apt of this host gets them: see that "
            "'apt-get update' works here.",
            environment={**variables, "VMORCH_DEBS": str(debs)},
        )


def sources(targets: Iterable[str], suite: str) -> list[str]:
    """One-line sources of `suite` at the mirrors that a Debian host itself uses (lines of
    `apt-get indextargets`). Empty: the host is no Debian, mmdebstrap's default is right."""
    found: dict[str, None] = {}
    for line in targets:
        origin, _, rest = line.partition(" ")
        words = rest.split()
        if origin != "Debian" or len(words) != 3 or words[1] != "main":
            continue
        codename, _, uri = words
        _, dash, pocket = codename.partition("-")
        if pocket in {"", "updates", "security"} and re.match("https?:", uri):
            found[f"deb {uri} {suite}{dash}{pocket} main"] = None
    return list(found) if any(f" {suite} main" in line for line in found) else []


async def _host_sources(suite: str) -> list[str]:
    query = ["apt-get", "indextargets", "--format", _TARGETS, "Created-By: Packages"]
    return sources(await run(query, say=_silent), suite)


async def _host_options() -> str:
    dump = await run(["apt-config", "dump"], say=_silent)
    return "".join(f"{line}\n" for line in dump if _HOST_OPTION.match(line))


def _check_keyring() -> None:
    if not _KEYRING.exists():
        raise BuildFailed(
            "The keys of Debian's archive are not on this host.",
            hint="Install them: apt-get install debian-archive-keyring.",
        )


def _versions(lines: Iterable[str]) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in lines if " " in line)


def _silent(line: str) -> None:
    del line
