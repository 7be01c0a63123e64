# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ports: which are in use in a network namespace, and which two instances would conflict."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from .._kernel import namespaces
from .._kernel.command import CommandError
from .._params import printed_number
from . import processes, supervisor
from .config import Endpoint
from .instance import Instance


@dataclass(frozen=True)
class Listener:
    """A socket and its process. C(pid) 0: a socket of the kernel, or of a process that is not visible."""

    endpoint: Endpoint
    pid: int = 0
    name: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} ({self.name})" if self.pid else "the kernel or a process that is not visible"


def listeners(netns: str) -> list[Listener]:
    """The listening sockets of a namespace; none if C(ss) fails."""
    command = ["ss", "--no-header", "--numeric", "--listening", "--tcp", "--udp", "--processes"]
    try:
        return parse_ss(supervisor.run([*(["nsenter", f"--net={namespaces.path(netns)}"] if netns else []), *command]))
    except CommandError:  # a port in use then fails the start
        return []


def parse_ss(output: str) -> list[Listener]:
    """Parse lines such as C(udp UNCONN 0 0 192.0.2.1%eth0:1194 0.0.0.0:* users:(("openvpn",pid=7,fd=5))). Pure."""
    found = []
    for line in output.splitlines():
        fields = line.split(None, 6)
        if len(fields) < 6 or fields[0] not in ("udp", "tcp"):
            continue
        host, _colon, port = fields[4].rpartition(":")
        host = host.strip("[]").partition("%")[0].strip("[]")
        # ss prints * for a socket of both families, and [::] for one of IPv6 only
        wildcard = {"*": (6, False), "::": (6, True), "0.0.0.0": (4, False)}.get(host)
        number = printed_number(port)
        if number is None:
            continue
        endpoint = Endpoint(fields[0], number, host)
        if wildcard:
            endpoint = Endpoint(fields[0], number, "", wildcard[0], v6only=wildcard[1])
        users = re.findall(r'\("((?:[^"\\]|\\.)*)",pid=([0-9]{1,10})', fields[6] if len(fields) > 6 else "")
        found += [Listener(endpoint, int(pid), name) for name, pid in users] or [Listener(endpoint)]
    return found


def in_use(endpoints: t.Iterable[tuple[Instance, Endpoint]], ignored: t.Collection[int]) -> dict[str, str]:
    """Name of an instance -> error, for each whose port another process uses. C(ignored): pids that will end."""
    by_netns: dict[str, list[Listener]] = {}
    found = {}
    for instance, endpoint in endpoints:
        if instance.netns not in by_netns:
            by_netns[instance.netns] = listeners(instance.netns)
        for listener in by_netns[instance.netns]:
            if listener.pid in ignored or not endpoint.overlaps(listener.endpoint):
                continue
            # systemd may have restarted the instance since it was observed
            if processes.runs_instance(processes.command_line(listener.pid), instance):
                continue
            found[instance.name] = (
                f"{endpoint} is held by {listener} in {describe_netns(instance.netns)}; "
                "end that process, or give another port"
            )
    return found


def conflicts(endpoints: t.Sequence[tuple[Instance, Endpoint]]) -> list[str]:
    """Errors for instances of one task that use the same port of the same namespace. Pure."""
    found = []
    by_port: dict[tuple[str, str, int], list[tuple[Instance, Endpoint]]] = {}
    for instance, endpoint in endpoints:
        earlier = by_port.setdefault((instance.netns, endpoint.protocol, endpoint.port), [])
        for other, other_endpoint in earlier:
            if endpoint.overlaps(other_endpoint):
                found.append(
                    f"{instance.name}: {instance.config}: {endpoint} is already the port of {other.name} "
                    f"in {describe_netns(instance.netns)}; use a different port for each"
                )
                break
        earlier.append((instance, endpoint))
    return found


def describe_netns(netns: str) -> str:
    """A namespace in the text of an error."""
    return f"the network namespace {netns}" if netns else "the host's own network namespace"
