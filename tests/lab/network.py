# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The network of a lab: a switch and the hosts and clients on it, each a namespace. No route leads out."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from .system import LabError, run, wait_for

LAN = "203.0.113"
SWITCH = "switch"


class Network:
    """The namespaces of one lab: lab-LAB-switch, lab-LAB-h1, lab-LAB-c1, …"""

    def __init__(self, lab: str):
        self.prefix = f"lab-{lab}-"

    def netns(self, short: str) -> str:
        """The full name of a namespace."""
        return self.prefix + short

    def make_switch(self) -> None:
        """Make the switch; from inside of it all others can be reached."""
        self._add(SWITCH)
        bridge = ("type", "bridge", "mcast_snooping", "0", "forward_delay", "0", "stp_state", "0")
        self._ip(SWITCH, "link", "add", "br0", *bridge)
        self._ip(SWITCH, "addr", "add", f"{LAN}.254/24", "dev", "br0")
        self._ip(SWITCH, "link", "set", "br0", "up")

    def plug(self, short: str, number: int, *, cut: bool = False) -> None:
        """Make a namespace with an eth0 that is plugged into the switch, with the same MAC address every time."""
        self._add(short)
        ends = ("type", "veth", "peer", "name", "eth0", "address", self.mac(number), "netns", self.netns(short))
        self._ip(SWITCH, "link", "add", short, *ends)
        self._ip(SWITCH, "link", "set", short, "master", "br0", "down" if cut else "up")
        self._ip(short, "addr", "add", f"{LAN}.{number}/24", "dev", "eth0")
        self._ip(short, "link", "set", "eth0", "up")

    def plug_tap(self, short: str, *, cut: bool = False) -> None:
        """A port of the switch for a program that is a host by itself."""
        self._ip(SWITCH, "tuntap", "add", "dev", short, "mode", "tap")
        self._ip(SWITCH, "link", "set", short, "master", "br0", "down" if cut else "up")

    def plugged(self, short: str) -> bool:
        """Whether the switch has a port of that name."""
        return f"{short}: " in self._ip(SWITCH, "-o", "link", "show")

    @staticmethod
    def mac(number: int) -> str:
        """Of the eth0 of whoever has that number."""
        return f"02:00:cb:00:71:{number:02x}"

    def unplug(self, short: str) -> None:
        """Remove such a namespace with all links, rules and settings that were made in it."""
        with contextlib.suppress(LabError):
            self._ip(SWITCH, "link", "del", short)  # a namespace takes its links along only in its own time
        self._delete(self.netns(short))

    def exists(self, short: str) -> bool:
        """Whether there is such a namespace."""
        return self.netns(short) in self.namespaces()

    def link(self, short: str, state: str) -> None:
        """Pull the cable out of the switch (down), or put it back (up)."""
        self._ip(SWITCH, "link", "set", short, state)

    def namespaces(self) -> list[str]:
        """All of this lab."""
        directory = Path("/run/netns")
        return sorted(path.name for path in directory.glob(self.prefix + "*")) if directory.exists() else []

    def remove(self) -> None:
        """Remove all of this lab, with the processes that are in them."""
        for netns in self.namespaces():
            self._delete(netns)

    def _add(self, short: str) -> None:
        run("ip", "netns", "add", self.netns(short))
        self._ip(short, "link", "set", "lo", "up")

    def _ip(self, short: str, *command: str) -> str:
        return run("ip", "-n", self.netns(short), *command)

    def _delete(self, netns: str) -> None:
        def pids() -> list[int]:
            try:
                return [int(pid) for pid in run("ip", "netns", "pids", netns).split()]
            except LabError:
                return []

        for pid in pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(f"the processes in namespace {netns} to end", lambda: not pids(), 10)
        with contextlib.suppress(LabError):
            run("ip", "netns", "del", netns)
