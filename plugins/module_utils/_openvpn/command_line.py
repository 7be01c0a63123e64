# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line of an OpenVPN process: its arguments, and its namespace, CPUs, user and capabilities. Pure."""

from __future__ import annotations

import os
import typing as t

from .config import Config
from .instance import Instance

OPENVPN = "/usr/sbin/openvpn"
STATUS_INTERVAL = 10  # seconds between two updates of the status file


def openvpn_command(instance: Instance, *, systemd: bool, binary: str = OPENVPN) -> list[str]:
    """OpenVPN's arguments, with the sockets and files that the supervisor depends on.

    --log-append precedes --config because the first log option wins. The others follow it because the last one wins.
    """
    args = [binary]
    args += ["--suppress-timestamps"] if systemd else ["--log-append", instance.log]
    args += ["--nobind"] if instance.role == "client" else []
    args += ["--cd", os.path.dirname(instance.config), "--config", os.path.basename(instance.config)]
    args += ["--management", instance.management, "unix"]
    args += ["--status", instance.status_file, str(STATUS_INTERVAL), "--status-version", "2"]
    return args if systemd else [*args, "--writepid", instance.pid_file]


def capabilities(config: Config | None) -> list[str]:
    """The capabilities of the process and its scripts, without C(CAP_) and in lower case."""
    return ["net_admin", *(["net_bind_service"] if config and config.low_port else [])]


def confined_command(
    instance: Instance, caps: t.Sequence[str], command: t.Sequence[str], *, netns: str, own_tun: bool
) -> list[str]:
    """A command in a network namespace, on the instance's CPUs, as its user and with no capabilities but C(caps).

    Each program of the chain replaces itself with the next one (exec), so the pid stays the same.
    C(own_tun): the user cannot open /dev/net/tun, so the process gets a private device node.
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
