# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line of an OpenVPN process, confined to its namespace, CPUs, user and rights. Pure."""

from __future__ import annotations

import os
import typing as t

from .config import Config
from .instance import OPENVPN, Instance

# Seconds between two writings of the status file: a file older than a few of them is a sign of trouble.
STATUS_INTERVAL = 10


def openvpn_command(instance: Instance, *, systemd: bool, binary: str = OPENVPN) -> list[str]:
    """OpenVPN's own arguments. What the supervision owns is given here, never in the configuration.

    --log-append precedes --config, because the first log option wins; the others follow it, because the last wins.
    """
    args = [binary]
    args += ["--suppress-timestamps"] if systemd else ["--log-append", instance.log]
    args += ["--nobind"] if instance.role == "client" else []
    args += ["--cd", os.path.dirname(instance.config), "--config", os.path.basename(instance.config)]
    args += ["--management", instance.management, "unix"]
    args += ["--status", instance.status_file, str(STATUS_INTERVAL), "--status-version", "2"]
    return args if systemd else [*args, "--writepid", instance.pid_file]


def capabilities(config: Config | None) -> list[str]:
    """The rights of the process, and of the scripts that it starts."""
    return ["net_admin", *(["net_bind_service"] if config and config.low_port else [])]


def confined_command(
    instance: Instance, caps: t.Sequence[str], command: t.Sequence[str], *, netns: str, own_tun: bool
) -> list[str]:
    """A command in a namespace, on its CPUs, as its user with no more than C(caps).

    Every word of the chain replaces itself by the next (exec), so the pid stays the same.
    C(own_tun): /dev/net/tun is closed to the user; it gets a node of its own, seen by this process alone.
    """
    chain: list[str] = []
    if netns:
        chain += ["ip", "netns", "exec", netns]
    elif own_tun:
        chain += ["unshare", "--mount"]
    if own_tun:
        node = "mount -t tmpfs -o mode=0755 tmpfs /dev/net && mknod -m 0666 /dev/net/tun c 10 200"
        chain += ["sh", "-c", f'{node} && exec "$@"', "sh"]
    if instance.cpus:
        chain += ["taskset", "-c", ",".join(map(str, instance.cpus))]
    kept = ",".join(["-all", *(f"+{c}" for c in caps)])
    chain += ["setpriv", "--reuid", instance.user, "--regid", instance.group, "--init-groups"]
    chain += ["--bounding-set", kept, "--inh-caps", kept, "--ambient-caps", kept]
    return [*chain, *command]
