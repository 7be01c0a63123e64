# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A kernel that still has CLUSTERIP: user-mode Linux, Debian's own 6.1 as an ordinary program. It needs no KVM.

It has no nftables but those of bridges: iptables-legacy, arptables-legacy, veth, bridge, network namespaces, tun.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import typing as t
from dataclasses import dataclass
from pathlib import Path

from .system import LabError

KERNEL = Path("/usr/bin/linux.uml")
MODULES = Path("/usr/lib/uml/modules")
MEMORY = "/dev/shm"

# $1: its directory, $2: the root file system that it sees through an overlay, then the kernel's parameters. The
# kernel's modules lie in a directory that Debian's root file systems do not look into.
START = """
mount --make-rslave /
cd "$1"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay root
mkdir -p root/usr/lib/modules
mount --bind "$3" root/usr/lib/modules
directory=$1
shift 3
exec linux.uml uml_dir="$directory/" root=/dev/root rootfstype=hostfs rootflags="$directory/root" rw quiet \\
    con=null con0=null,fd:1 init=/labinit "$@" </dev/null
"""

# A program instead of a system. The files of its caller are where they are outside.
ONCE = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
ip link set lo up
for path in {paths}; do mkdir -p "$path" && mount -t hostfs none "$path" -o "$path"; done
cd {directory}
{command} >{directory}/output 2>&1
echo $? >{directory}/status
echo o >/proc/sysrq-trigger
sleep 60
"""


def available() -> bool:
    """Whether the package user-mode-linux is there."""
    return KERNEL.exists()


def command_line(directory: Path, root: Path, *parameters: str) -> list[str]:
    """The command line of the kernel. Its processes and mounts end with it."""
    if not available():
        raise LabError("linux.uml is missing: install the packages of tools/packages.txt")
    script = ("sh", "-euc", START, "sh", str(directory), str(root), str(MODULES), *parameters)
    # Its memory is a file.
    return ["env", f"TMPDIR={MEMORY}", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--", *script]


def write_program(path: Path, text: str) -> None:
    """A script that can be run."""
    path.write_text(text)
    path.chmod(0o755)


@dataclass(frozen=True)
class Done:
    """Output and exit status of a command."""

    status: int
    output: str


def run_once(command: t.Sequence[str], directory: Path, *paths: Path, seconds: float = 120) -> Done:
    """Boot the kernel with the machine's own files below it, run a command as root, and switch it off.

    directory: an empty one, into which the command may write, as into C(paths); other files that it writes are lost.
    """
    directory = directory.resolve()
    shared = [directory, *(path.resolve() for path in paths)]
    quoted = " ".join(shlex.quote(str(path)) for path in shared)
    init = ONCE.format(paths=quoted, directory=shlex.quote(str(directory)), command=shlex.join(command))
    # In memory, as an overlay does not lie upon an overlay, which the machine's files may be on.
    with tempfile.TemporaryDirectory(dir=MEMORY) as name, (directory / "console").open("w") as console:
        for part in ("upper", "work", "root"):
            (Path(name) / part).mkdir(mode=0o755)
        write_program(Path(name) / "upper/labinit", init)
        line = command_line(Path(name), Path("/"), "mem=768M")
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=console, stderr=console, process_group=0)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired as exc:
            raise LabError(f"waited {seconds:.0f} s for the end of {command[0]}: see {directory}") from exc
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    status = directory / "status"
    if not status.exists():
        raise LabError(f"the kernel ended before its command: {(directory / 'console').read_text()}")
    return Done(int(status.read_text()), (directory / "output").read_text())
