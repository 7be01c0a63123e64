# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ports of a bundle that other processes on the host listen on: refused before any change."""

from __future__ import annotations

import re

from .._kernel.command import run
from .._openvpn import ports
from .._openvpn.config import Endpoint
from .._openvpn.instance import MANAGEMENT_SOCKET, RUN, Instance, management_socket
from .._openvpn.processes import command_line
from .._params import ParameterError, printed_number
from . import watch_process
from .bundle import Bundle


def refuse_ports_in_use(bundle: Bundle, supervisor: str) -> None:
    """Raise ParameterError if another process listens on the port of a tunnel or of the probes.

    C(supervisor) is systemd or process. Without this check, OpenVPN or the watch would fail only after the change.
    """
    instances = [Instance(x.device, netns=bundle.netns, management=management_socket(x.device)) for x in bundle.tunnels]
    ours = _own_processes(bundle, supervisor)
    in_use = ports.in_use([(i, Endpoint("udp", x.port)) for i, x in zip(instances, bundle.tunnels)], ours)
    for i, tunnel in enumerate(bundle.tunnels):
        if tunnel.device in in_use:
            raise ParameterError(f"tunnels[{i}].port", tunnel.port, in_use[tunnel.device])
    if bundle.timeout:
        probes = [(i, Endpoint("udp", bundle.probe_port, x.probed.local)) for i, x in zip(instances, bundle.tunnels)]
        for reason in ports.in_use(probes, ours).values():
            raise ParameterError("probe_port", bundle.probe_port, reason)


def _own_processes(bundle: Bundle, supervisor: str) -> set[int]:
    """The bundle's listening processes: its watch and its tunnels, including those that are about to be removed."""
    management = re.compile(rf"{RUN}/{re.escape(bundle.name)}-[0-9]+/{re.escape(MANAGEMENT_SOCKET)}")
    listening = {holder.pid for holder in ports.listeners(bundle.netns)}
    tunnels = {pid for pid in listening if any(map(management.fullmatch, command_line(pid)))}
    if supervisor == "process":
        watch = watch_process.running(bundle.name).get("pid", 0)
    else:
        shown = run(["systemctl", "show", "--property=MainPID", "--value", bundle.watch_unit])
        watch = printed_number(shown.strip()) or 0
    return {*tunnels, watch} - {0}
