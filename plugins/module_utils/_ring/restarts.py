# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restart the servers of a member that do not answer; but none that waits for a log-in.

A script or plugin that asks a directory blocks its server. A restart would end all sessions, and block again.
"""

from __future__ import annotations

import contextlib
import typing as t

from .._kernel.command import CommandError
from .._openvpn import supervisor
from .._openvpn.config import Config, read_config
from .._openvpn.instance import config_path
from .._openvpn.supervisor_systemd import SystemdSupervisor
from .failover import Member
from .health import check_instance


def restart_hung(member: Member, timeout: float, log: t.Callable[[str], None]) -> None:
    """Restart each server of the member that does not answer. One that has exited, systemd starts again by itself."""
    for instance in member.instances:
        try:
            problem = check_instance(instance, timeout)
            pid = SystemdSupervisor().pid(instance) if problem else 0
            if not pid:
                continue
            if waits(process_state(pid), has_children(pid), read_config(config_path("server", instance.name))):
                log(f"{problem}; it is not restarted: it may wait for a log-in")
                continue
            log(f"{problem}; systemctl restart {instance.unit}")
            supervisor.run(["systemctl", "try-restart", "--no-block", instance.unit])
        except (OSError, CommandError) as exc:
            log(f"cannot restart {instance.name}: {exc}")


def waits(state: str, children: bool, config: Config | None) -> bool:
    """Whether a process that does not answer may wait for a script (a child process) or within a plugin. Pure.

    state: that of /proc/PID/stat. Only a process that sleeps waits; one that is stopped or that computes does not.
    """
    return state in ("S", "D") and (children or (config is not None and config.has("plugin")))


def process_state(pid: int) -> str:
    """The state of a process: R, S, D, T, …; "" if it does not exist."""
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0].decode(errors="replace")
    return ""


def has_children(pid: int) -> bool:
    """Whether a process has child processes."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
        return bool(file.read().strip())
    return False
