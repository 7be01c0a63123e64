# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Root file systems of the lab's hosts and of a controller: each is built once for a suite and a list of packages, and
kept outside of the checkout."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path

from .system import LabError

CACHE = Path("/var/cache/clustered-openvpn-lab")
SUITES = ("bookworm", "trixie")

# Run by mmdebstrap in the new root. Timers and consoles would only use the machine's time; a journal on disk outlives
# a reboot.
CUSTOMIZE = """
set -e
rm -f etc/hostname etc/resolv.conf
: >etc/machine-id
mkdir -p var/log/journal var/lib/apt/periodic
install -d -m 0700 root/.ssh
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \\
    console-getty.service getty.target systemd-networkd.service systemd-networkd.socket; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
"""


HOST, CONTROLLER = "packages.txt", "controller.txt"  # lists of packages


def packages(purpose: str = HOST) -> list[str]:
    """The packages in it beside the essential ones."""
    lines = Path(__file__).with_name(purpose).read_text().splitlines()
    return [line.split()[0] for line in lines if line and not line.startswith("#")]


def path(suite: str, purpose: str = HOST) -> Path:
    """Its path, whether it exists or not: another list of packages is another path."""
    recipe = "\n".join([suite, *packages(purpose), CUSTOMIZE])
    return CACHE / f"{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def ensure(suite: str, purpose: str = HOST) -> Path:
    """Build it unless it exists; its path."""
    root = path(suite, purpose)
    CACHE.mkdir(mode=0o755, exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:  # two may want it at once
        if not root.exists():
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            print(f"lab: building {root} (about a minute, 300 MB)", flush=True)
            _build(suite, root, packages(purpose))
    return root


def _build(suite: str, root: Path, included: list[str]) -> None:
    building = Path(tempfile.mkdtemp(prefix=f".{suite}-", dir=CACHE))
    log = CACHE / f"{suite}.log"
    command = [
        *("mmdebstrap", "--variant=apt", "--mode=root", f"--include={','.join(included)}"),
        *("--aptopt=APT::Install-Recommends false", f'--customize-hook=cd "$1" && {CUSTOMIZE}'),
        *(suite, str(building / "root")),
    ]
    try:
        with log.open("w") as output:
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
                )
            except FileNotFoundError as exc:
                raise LabError("mmdebstrap is missing: install the packages of tools/packages.txt") from exc
            try:
                code = process.wait(timeout=900)
            except subprocess.TimeoutExpired as exc:
                raise LabError(f"waited 900 s for mmdebstrap: see {log}") from exc
            finally:
                _end(process)
        if code != 0:
            raise LabError(f"mmdebstrap ended with {code}: see {log}")
        os.sync()  # before the rename: never half a root file system
        (building / "root").rename(root)
        log.unlink()
    finally:
        # Whatever is mounted in there stays out of it.
        subprocess.run(["rm", "-rf", "--one-file-system", building], check=False)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it, with its children, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
