# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes in /proc: identity, start time, command line, network namespace."""

from __future__ import annotations

import os
import time
import typing as t

from .._kernel import namespaces
from .._params import printed_number
from .instance import Instance


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if it does not exist or is a zombie.

    Together with the pid it identifies a process, since pids are reused.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if len(fields) < 20 or fields[0] in "ZX" else printed_number(fields[19]) or 0


def started_at(pid: int) -> float:
    """When a process started, in seconds since 1970."""
    since_boot = start_ticks(pid) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot


def command_line(pid: int) -> list[str]:
    """The command line of a process; empty if it does not exist."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")]
    except OSError:
        return []


def runs_instance(words: t.Sequence[str], instance: Instance) -> bool:
    """Whether a command line is that of the instance, recognized by its management socket. Pure."""
    pairs = zip(words, words[1:])
    return ("--management", instance.management) in pairs and any(os.path.basename(w) == "openvpn" for w in words)


def find_processes(instances: t.Sequence[Instance]) -> dict[str, int]:
    """Name -> pid, found by command lines. Needed if a run was killed before it wrote the record."""
    found: dict[str, int] = {}
    if not instances:
        return found
    for pid in filter(None, map(printed_number, os.listdir("/proc"))):
        words = command_line(pid)
        if "--management" in words:
            found.update({i.name: pid for i in instances if runs_instance(words, i) and start_ticks(pid)})
    return found


def in_netns(pid: int, netns: str, host: str = "/proc/self/ns/net") -> bool:
    """Whether a process is in the namespace that has this name now. C(host): the file for the empty name."""
    try:
        a, b = os.stat(f"/proc/{pid}/ns/net"), os.stat(namespaces.path(netns) if netns else host)
    except OSError:
        return False
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
