# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Observes the host's network managers, and plans their files."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import typing as t

from .._kernel import command
from .._kernel.kernel import Kernel
from .._kernel.steps import Planned
from . import managers as _managers
from .managers import Links, Seen

# manager -> files of which one exists where it is installed
INSTALLED = {
    "systemd-networkd": ("/usr/lib/systemd/systemd-networkd", "/lib/systemd/systemd-networkd"),
    "NetworkManager": ("/usr/sbin/NetworkManager",),
    "dhcpcd": ("/etc/dhcpcd.conf",),
}
# manager -> its record of a link, and the lines in it of which one says that it configures the link
RECORDS = {
    "systemd-networkd": (
        "/run/systemd/netif/links",
        {"ADMIN_STATE=configuring", "ADMIN_STATE=configured", "ADMIN_STATE=failed"},
    ),
    "NetworkManager": ("/run/NetworkManager/devices", {"managed=1", "managed=true"}),
}
SETTLE = 5.0  # seconds that a manager may take to release a link, after it has read its files


def network_managers(kernel: Kernel, links: Links, present: bool) -> Planned:
    """Observe and plan the files of network managers."""
    del kernel  # the managers are programs
    end = time.monotonic() + SETTLE
    while True:
        seen = observe(links)
        steps = _managers.plan(links, present, seen)
        # A manager that has read its files releases the links in its own time.
        if not any(seen.taken.values()) or any(step.op != "command" for step in steps) or time.monotonic() > end:
            return Planned(steps)
        time.sleep(0.1)


def observe(links: Links) -> Seen:
    """The managers of this host. Inside another network namespace than that of process 1 there are none."""
    paths = [manager.path(links.name) for manager in _managers.MANAGERS]
    files = {path: text for path, text in ((path, _read(path)) for path in paths) if text is not None}
    if not _in_namespace_of_process_1():
        return Seen(files=files)
    installed = frozenset(name for name, places in INSTALLED.items() if any(map(os.path.exists, places)))
    running = _running(sorted(installed))
    return Seen(installed, running, files, {name: _taken(name, links) for name in RECORDS if name in running})


def _in_namespace_of_process_1() -> bool:
    try:
        return os.readlink("/proc/self/ns/net") == os.readlink("/proc/1/ns/net")
    except OSError:  # a container that hides process 1 from root: its managers cannot be ours either
        return False


def _running(names: t.Sequence[str]) -> frozenset[str]:
    """Those whose unit is active. Their directories in /run stay when they end, so these prove nothing."""
    if not names or not os.path.isdir("/run/systemd/system"):
        return frozenset()
    states = command.run(["systemctl", "show", "--property=ActiveState", "--value", *(f"{n}.service" for n in names)])
    return frozenset(name for name, state in zip(names, states.split()) if state in ("active", "reloading"))


def _taken(manager: str, links: Links) -> tuple[str, ...]:
    directory, signs = RECORDS[manager]
    found = []
    for name in links.interfaces:
        with contextlib.suppress(OSError):  # the link does not exist
            record = _read(f"{directory}/{socket.if_nametoindex(name)}")
            if record is not None and signs & set(record.splitlines()):
                found.append(name)
    return tuple(found)


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
