"""What the builder's worker makes of a step, to the byte.

A layer's key holds the builder's version instead of the builder. So when this fails, the same
step has come to another layer: raise `BUILDER_VERSION` in `vmorch/images/keys.py`, and write down
here what is so now, in one commit. Code that only looks different does not fail.
"""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from image_bench import Bench, bench_at

from vmorch.images import keys

VERSION = 2
EPOCH = "1700000000"
DOCKERFILE = """FROM debian:12 AS made
RUN <<'END'
#!/usr/bin/python3
import os
os.makedirs("/out/deep", 0o751)
open("/out/deep/file", "w").write("built")
os.chown("/out/deep/file", 33, 34)
os.chmod("/out/deep/file", 0o4750)
capability = bytes.fromhex("0100000200200000000000000000000000000000")
open("/out/able", "w").close()
os.setxattr("/out/able", "security.capability", capability)
os.symlink("/nowhere", "/out/link")
os.mkfifo("/out/pipe")
END
FROM debian:12
ARG SOURCE_DATE_EPOCH
WORKDIR /golden/made/by/workdir
COPY tree /golden/copied
COPY --chown=daemon:34 --chmod=640 tree/file /golden/owned/name
COPY tree/file /golden/copied/link
COPY --from=made /out /golden/staged
ADD archive.tar /golden/unpacked
COPY <<END /golden/heredoc
text
END
USER daemon:34
ENV A=b
RUN env | grep -v -e _CERT -e BUNDLE -e CAINFO -e SSL | sort; umask; id -u; id -G; pwd; \\
  cat /etc/hosts; ls -A /dev /proc/sys/kernel/hostname; hostname
USER root
RUN touch /golden/x && stat -c '%a %u:%g' /golden/x && rm /golden/x
RUN cd /golden && find . -printf '%p %y %m %U:%G %s %l\\n' | grep -v ' d .* 4096 $' | sort; \\
  find . -type d -printf '%p d %m %U:%G\\n' | sort; \\
  find . -type f -printf '%p %Ts\\n' | sort; getfattr -d -m - -R . 2>/dev/null; \\
  python3 -c 'import os; print(os.getxattr("staged/able", "security.capability").hex())'; \\
  find . -type f -exec sha256sum {} + | cut -c 1-16,65- | sort -k 2
"""
SAID = """A=b
HOME=/usr/sbin
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PWD=/golden/made/by/workdir
SOURCE_DATE_EPOCH=1700000000
0022
1
34
/golden/made/by/workdir
127.0.0.1 localhost build
::1 localhost
/proc/sys/kernel/hostname

/dev:
.vmorch
fd
full
null
ptmx
pts
random
shm
stderr
stdin
stdout
tty
urandom
zero
build
644 0:0
./copied/file f 644 0:0 7
./copied/link f 644 0:0 7
./copied/sub/tool f 755 0:0 9
./heredoc f 644 0:0 5
./owned/name f 640 1:34 7
./staged/able f 644 0:0 0
./staged/deep/file f 4750 33:34 5
./staged/link l 777 0:0 8 /nowhere
./unpacked/absolute f 600 0:0 3
./unpacked/d/file f 6755 1:2 3
./unpacked/device c 666 0:0 0
./unpacked/hard f 6755 1:2 3
./unpacked/soft l 777 9:0 7 /d/file
. d 755 0:0
./copied d 755 0:0
./copied/sub d 755 0:0
./made d 755 0:0
./made/by d 755 0:0
./made/by/workdir d 755 0:0
./owned d 755 1:34
./staged d 755 0:0
./staged/deep d 751 0:0
./unpacked d 755 0:0
./unpacked/d d 711 5:6
./copied/file 1700000000
./copied/link 1700000000
./copied/sub/tool 1700000000
./heredoc 1700000000
./owned/name 1700000000
./staged/able 1700000000
./staged/deep/file 1700000000
./unpacked/absolute 1234567890
./unpacked/d/file 1234567890
./unpacked/hard 1234567890
0100000200200000000000000000000000000000
ed7002b439e9ac84  ./copied/file
ed7002b439e9ac84  ./copied/link
3af71adb278ad4af  ./copied/sub/tool
b9e68e1bea3e5b19  ./heredoc
ed7002b439e9ac84  ./owned/name
e3b0c44298fc1c14  ./staged/able
586a866f990ab55e  ./staged/deep/file
ba7816bf8f01cfea  ./unpacked/absolute
ba7816bf8f01cfea  ./unpacked/d/file
ba7816bf8f01cfea  ./unpacked/hard
"""


@pytest.fixture
def bench(images_dir: Path, tmp_path: Path) -> Iterator[Bench]:
    yield from bench_at(images_dir, tmp_path)


def member(name: str, **attributes: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in {"mtime": 1234567890, **attributes}.items():
        setattr(info, key, value)
    return info


def test_a_step_comes_to_the_same_bytes_as_ever(bench: Bench) -> None:
    bench.file("tree/file", "content")
    bench.file("tree/sub/tool", "#!/bin/sh").chmod(0o755)
    (bench.context / "tree/link").symlink_to("sub/tool")
    with tarfile.open(bench.context / "archive.tar", "w") as archive:
        for info in (
            member("./", type=tarfile.DIRTYPE, mode=0o700, uid=7),
            member("./d/", type=tarfile.DIRTYPE, mode=0o711, uid=5, gid=6),
            member("d/file", size=3, mode=0o6755, uid=1, gid=2),
            member("/absolute", size=3, mode=0o600),
            member("hard", type=tarfile.LNKTYPE, linkname="d/file", mode=0o6755, uid=1, gid=2),
            member("soft", type=tarfile.SYMTYPE, linkname="/d/file", uid=9),
            member("device", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        ):
            archive.addfile(info, io.BytesIO(b"abc"))
    said = bench.output(DOCKERFILE, args={"SOURCE_DATE_EPOCH": EPOCH})
    assert [line.rstrip() for line in said.splitlines()] == SAID.splitlines()
    assert keys.BUILDER_VERSION == VERSION
