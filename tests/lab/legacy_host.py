# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host whose kernel still has CLUSTERIP: the same Debian with systemd, in a user-mode Linux."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import time
import typing as t
from pathlib import Path

from . import uml
from .host import Host
from .network import SWITCH
from .system import LabError, run, wait_for

# Replaces firmware and cable. Without udev, a rule of tmpfiles lets everybody use tun.
INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
ip link set vec0 name eth0
ip addr add {address}/24 dev eth0
ip link set eth0 up
exec /sbin/init systemd.unit=multi-user.target
"""
TMPFILES = "z /dev/net/tun 0666 - - -\n"

# A kernel that restarts itself finds its NIC in use by its former self: the keeper restarts it instead.
SHUTDOWN = """#!/bin/sh
[ "$1" = reboot ] || exit 0
mount -t hostfs none /tmp -o {directory}
touch /tmp/reboot
echo o >/proc/sysrq-trigger
sleep 60
"""


SECONDS = 240  # for a boot: ten, and many times that beside others, for each system call of its programs is traced
AGAIN = 20.0  # seconds until it is asked once more


class LegacyHost(Host):
    """A host of a lab that is reached by its network only: C(command) goes by ssh."""

    def make(self, authorized_key: str) -> None:
        super().make(authorized_key)
        upper = self.directory / "upper"
        uml.write_program(upper / "labinit", INIT.format(address=self.address))
        shutdown = upper / "usr/lib/systemd/system-shutdown"
        shutdown.mkdir(parents=True)
        uml.write_program(shutdown / "lab", SHUTDOWN.format(directory=self.directory))
        (upper / "etc/tmpfiles.d").mkdir(parents=True)
        (upper / "etc/hostname").write_text(f"{self.name}\n")
        (upper / "etc/tmpfiles.d/lab.conf").write_text(TMPFILES)

    def keep(self, root: Path) -> None:
        nic = f"vec0:transport=tap,ifname={self.name},depth=128,gro=1,mac={self._network.mac(self.number)}"
        kernel = uml.command_line(self.directory, root, "mem=512M", f"umid={self.name}", nic)
        line = ["nsenter", f"--net=/run/netns/{self._network.netns(SWITCH)}", *kernel]
        again = self.directory / "reboot"
        again.touch()
        while again.exists():
            again.unlink()
            self._network.unplug(self.name)
            self._network.plug_tap(self.name, cut=self._cut.exists())
            subprocess.run(line, preexec_fn=self.cgroup.join, check=False)
            self.cgroup.kill()
            self._network.unplug(self.name)

    def leader(self) -> int | None:
        return None  # its processes are none of the machine's

    def command(self, *command: str) -> list[str]:
        if not self.cgroup.populated():
            raise LabError(f"host {self.name} of lab {self.lab} is off: see {self.log}")
        state = self.directory.parent
        ssh = {
            "UserKnownHostsFile": state / "known_hosts",
            "IdentitiesOnly": "yes",
            "IdentityFile": state / "key",
            "ConnectTimeout": 10,
            "LogLevel": "ERROR",
        }
        options = [word for key, value in ssh.items() for word in ("-o", f"{key}={value}")]
        inside = ["ip", "netns", "exec", self._network.netns(SWITCH)]
        return [*inside, "ssh", *options, f"root@{self.address}", shlex.join(command)]

    def wait_until_running(self, seconds: float = SECONDS) -> None:
        super().wait_until_running(seconds)

    def reboot(self, *, hard: bool = False) -> None:
        if hard or not self.cgroup.populated():
            self.switch_off(hard=hard)
            self.start()
        else:
            before, ask = "", self._asking("reboot")

            def has_rebooted() -> bool:
                nonlocal before
                now = self._boot_id()
                before = before or now
                if now == before != "":
                    ask()
                return now not in ("", before)

            wait_for(f"host {self.name} to come back", has_rebooted, SECONDS, self.log)
        self.wait_until_running()

    def switch_off(self, *, hard: bool = False) -> None:
        if not hard and self.cgroup.populated():
            ask = self._asking("poweroff")

            def is_off() -> bool:
                if self.cgroup.populated():
                    ask()
                return not self.cgroup.populated()

            wait_for(f"host {self.name} to shut down", is_off, SECONDS, self.log)
        self.cgroup.kill()
        wait_for(f"host {self.name} to be off", lambda: not self._network.plugged(self.name), 20, self.log)

    def _asking(self, verb: str) -> t.Callable[[], None]:
        """A function that repeats the request every AGAIN seconds: under load, a connection may time out."""
        asked = -AGAIN

        def ask() -> None:
            nonlocal asked
            if time.monotonic() - asked >= AGAIN:
                self._ask_to(verb)
                asked = time.monotonic()

        return ask

    def _ask_to(self, verb: str) -> None:
        with contextlib.suppress(LabError):  # the connection may end before its command
            run(*self.command("systemctl", "--no-block", verb))

    def _boot_id(self) -> str:
        try:
            return run(*self.command("cat", "/proc/sys/kernel/random/boot_id"))
        except LabError:
            return ""
