# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host: a Debian with systemd of its own, in a container that systemd-nspawn starts.

A keeper, one process for each host, stands for the hardware: it plugs the host into the switch and starts it, and does
both again when the host asks for a reboot. The network namespace is a new one each time, so that nothing that the host
had in its kernel is there afterwards, as on a machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from .network import LAN, Network
from .system import Cgroup, LabError, run, wait_for

REBOOT = 133  # the exit status of systemd-nspawn then

# Mounts are in a mount namespace of its own: they go with it. The machine's /dev/net/tun may be for root alone, and
# directories below /run may not hold devices. Records of systemd-nspawn would stay when it is killed.
START = """
mount --make-rslave /
cd "$1"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay root
mount -t tmpfs -o mode=0755 tmpfs dev
mknod -m 0666 dev/tun c 10 200
mkdir -p /run/systemd/nspawn
mount -t tmpfs -o mode=0755 tmpfs /run/systemd/nspawn
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
exec systemd-nspawn --machine="$3" --network-namespace-path="/run/netns/$4" --directory="$1/root" \\
    --quiet --register=no --keep-unit --settings=no --resolv-conf=off --timezone=off --link-journal=no --console=pipe \\
    --capability=all --bind="$1/dev/tun:/dev/net/tun" --boot </dev/null
"""


class Host:
    """A host of a lab. Its disk is an overlay over the root file system that all share."""

    def __init__(self, lab: str, name: str, directory: Path, log: Path, group: str):
        self.lab = lab
        self.name = name
        self.number = int(name[1:])
        self.address = f"{LAN}.{self.number}"
        self.directory = directory
        self.log = log
        self.cgroup = Cgroup(f"{group}/{name}")
        self._init = Cgroup(f"{group}/{name}/payload/init.scope")
        self._keepers = Cgroup(f"{group}/keepers")
        self._network = Network(lab)
        self._cut = self.directory / "cut"
        self._keeper: subprocess.Popen[bytes] | None = None

    def make(self, authorized_key: str) -> None:
        """Lay out its disk."""
        for name in ("upper", "work", "root", "dev"):
            (self.directory / name).mkdir(parents=True)
        upper = self.directory / "upper"
        (upper / "root/.ssh").mkdir(parents=True)
        for directory in (upper / "root", upper / "root/.ssh"):
            directory.chmod(0o700)
        (upper / "root/.ssh/authorized_keys").write_text(authorized_key)
        # apt would fetch lists from afar when the ones it has are a day old.
        (upper / "var/lib/apt/periodic").mkdir(parents=True)
        (upper / "var/lib/apt/periodic/update-success-stamp").touch()
        self.cgroup.make()

    def start(self) -> None:
        """Switch it on."""
        if self.cgroup.populated():
            raise LabError(f"host {self.name} of lab {self.lab} runs already")
        with self.log.open("a") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-B", str(Path(__file__).with_name("__main__.py")), "keep", self.lab, self.name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=self._keepers.join,  # before anything else: who is not in it outlives `down`
            )

    def keep(self, root: Path) -> None:
        """Run it until it is switched off."""
        script = ("sh", "-euc", START, "sh", self.directory, root, self.name, self._network.netns(self.name))
        code = REBOOT
        while code == REBOOT:
            self._network.unplug(self.name)
            self._network.plug(self.name, self.number, cut=self._cut.exists())
            code = subprocess.run(["unshare", "--mount", *script], preexec_fn=self.cgroup.join, check=False).returncode
            self.cgroup.kill()
            self.cgroup.clear()
            self._network.unplug(self.name)
        if code:
            print(f"systemd-nspawn ended with {code}", flush=True)

    def leader(self) -> int | None:
        """The host's process 1."""
        pids = self._init.pids()
        return pids[0] if pids else None

    def command(self, *command: str) -> list[str]:
        """A command line, to be run in the host, its network cut or not."""
        leader = self.leader()
        if leader is None:
            raise LabError(f"host {self.name} of lab {self.lab} is off: see {self.log}")
        environment = (
            "HOME=/root",
            "LC_ALL=C.UTF-8",
            f"TERM={os.environ.get('TERM', 'dumb')}",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
        return ["nsenter", f"--target={leader}", *spaces, "--", "env", "-i", "-C", "/root", *environment, *command]

    def wait_until_running(self, seconds: float = 60) -> None:
        """Wait for the end of its boot."""
        state = ""

        def booted() -> bool:
            nonlocal state
            if self._keeper and self._keeper.poll() is not None:
                raise LabError(f"host {self.name} went off while it booted: see {self.log}")
            try:
                done = subprocess.run(
                    self.command("systemctl", "is-system-running"),
                    capture_output=True,
                    text=True,
                    timeout=10,
                    check=False,
                )
            except (LabError, subprocess.TimeoutExpired):
                return False
            state = done.stdout.strip()
            return state in ("running", "degraded")

        wait_for(f"host {self.name} to boot", booted, seconds, self.log)
        if state == "degraded":
            failed = run(*self.command("systemctl", "list-units", "--failed", "--plain", "--no-legend"))
            raise LabError(f"units of host {self.name} failed: {failed}: see {self.log}")

    def reboot(self, *, hard: bool = False) -> None:
        """Reboot it, by a shutdown or as after a loss of power; wait until it runs."""
        before = self.leader()
        if hard or before is None:
            self.switch_off(hard=hard)
            self.start()
        else:
            os.kill(before, signal.SIGRTMIN + 5)
            wait_for(
                f"host {self.name} to go down and come back", lambda: self.leader() not in (before, None), 60, self.log
            )
        self.wait_until_running()

    def switch_off(self, *, hard: bool = False) -> None:
        """Shut it down, or take its power away; wait until it is off."""
        leader = self.leader()
        if leader is not None and not hard:
            with contextlib.suppress(ProcessLookupError):
                os.kill(leader, signal.SIGRTMIN + 4)
            wait_for(f"host {self.name} to shut down", lambda: not self.cgroup.populated(), 60, self.log)
        self.cgroup.kill()
        wait_for(f"host {self.name} to be off", lambda: not self._network.exists(self.name), 20, self.log)

    def cut(self) -> None:
        """Pull its cable; a reboot does not put it back."""
        self._cut.touch()
        self._network.link(self.name, "down")

    def mend(self) -> None:
        """Put its cable back."""
        self._cut.unlink(missing_ok=True)
        self._network.link(self.name, "up")

    def save_logs(self, directory: Path) -> None:
        """Copy its logs: console, journal, files. It may be off."""
        logs = self.directory / "upper/var/log"
        if directory != self.log.parent:
            shutil.copy(self.log, directory)
        if (logs / "journal").exists():
            journal = run(
                "journalctl", "--quiet", "--no-pager", "--output=short-precise", f"--directory={logs / 'journal'}"
            )
            (directory / f"{self.name}.journal.log").write_text(journal + "\n")
        for path in logs.glob("clustered-openvpn/*.log"):
            shutil.copyfile(path, directory / f"{self.name}.{path.name}")
