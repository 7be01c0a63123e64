# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names that something else on the host has: bridges, namespaces, interfaces, configurations. Pure.

The cluster's own are in its desired state, which is saved before they are created. Where the state was lost, they are
recognised by MAC addresses that come from the names, and by the first lines of configurations.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from .._kernel.observed import Link
from .._params import ParameterError
from .._state.bundle import BundleState
from .._state.cluster import Bridge, ClusterState
from .._state.files import State

CONFIGURATIONS = "/etc/openvpn/server"
# A line of each configuration that the roles write, whatever ansible_managed is.
_OURS = re.compile(r"^(config /etc/clustered-openvpn/[^ ]+/server\.conf|# A tunnel of the bundle [^ ]+, to .*)$", re.M)


@dataclass(frozen=True)
class Present:
    """What has such a name. C(namespaces): their links. C(configurations): path -> content."""

    links: t.Mapping[str, Link] = field(default_factory=dict)
    namespaces: t.Mapping[str, t.Mapping[str, Link]] = field(default_factory=dict)
    configurations: t.Mapping[str, str] = field(default_factory=dict)


def configuration_names(state: State) -> list[str]:
    """The names of a state's OpenVPN instances."""
    if isinstance(state, BundleState):
        return [*(one.name for one in state.instances), *(one.name for one in state.gone)]
    return [one.name for one in (*state.servers, *state.retired.servers)]


def errors(now: State, previous: State | None, present: Present) -> list[str]:
    """A sentence for each name that something else has."""
    variable = "tunnel_bundle_adopt" if isinstance(now, BundleState) else "netns_cluster_adopt"
    known = set(configuration_names(previous)) if previous else set()
    result = [
        f"{path} exists and was not written for it"
        for name in configuration_names(now)
        for path in (f"{CONFIGURATIONS}/{name}.conf",)
        if name not in known and path in present.configurations and not _OURS.search(present.configurations[path])
    ]
    if isinstance(now, ClusterState):
        result = [*_in_kernel(now, previous if isinstance(previous, ClusterState) else None, present), *result]
    remedy = f"choose another name, or set {variable}: true to take it over; state absent then removes it"
    return [str(ParameterError("name", now.name, f"{reason}; {remedy}")) for reason in result]


def _in_kernel(now: ClusterState, previous: ClusterState | None, present: Present) -> t.Iterator[str]:
    known, links = _known(previous), present.links
    for bridge in now.bridges:
        link = links.get(bridge.name)
        if link and bridge.exclusive and bridge.name not in known and link.mac != bridge.mac:
            yield f"the interface {_described(link, links)} of this host is not its bridge"
    lan = links.get(now.cluster.bridge)
    if now.take_interface and lan and now.cluster.bridge not in _taken(previous):
        text = f"the interface {_described(lan, links)} of this host was not made by netns_cluster_take_interface"
        yield f"{text}, which has to be false for a bridge that exists"
    macs = {member.name: member.mac for member in now.members}
    recognised = set(known)
    for namespace in now.namespaces:
        found = present.namespaces.get(namespace.name)
        if found is None or namespace.name in known:
            continue
        if macs.get(namespace.name) in {link.mac for link in found.values()}:
            recognised.add(namespace.name)
            continue
        inside = ", ".join(_described(link, found) for name, link in sorted(found.items()) if name != "lo")
        text = f"the network namespace {namespace.name} of this host was not made for it"
        yield f"{text} and holds {inside or 'no interface'}"
    for veth in now.veths:
        link = links.get(veth.name)
        # One that is left of ours has its other end in its member.
        if link and veth.name not in known and veth.peer.netns not in recognised:
            yield f"the interface {_described(link, links)} of this host is not its link to a member"
    for server in now.servers:
        if not server.netns and server.device in links and server.name not in known:
            yield f"the interface {_described(links[server.device], links)} of this host is not its tunnel"


def _known(previous: ClusterState | None) -> set[str]:
    """Names in the former state."""
    if previous is None:
        return set()
    before = previous.retired
    bridges: tuple[Bridge, ...] = (*previous.bridges, *before.bridges, *before.former_bridges)
    named: tuple[t.Any, ...] = (*previous.namespaces, *before.namespaces, *previous.veths, *before.veths)
    servers = (*previous.servers, *before.servers)
    return {*(b.name for b in bridges if b.exclusive), *(one.name for one in (*named, *servers))}


def _taken(previous: ClusterState | None) -> set[str]:
    """Bridges that the cluster made for the NIC."""
    if previous is None:
        return set()
    before = {nic.bridge for nic in previous.retired.nics}
    return before | ({previous.cluster.bridge} if previous.take_interface else set())


def _described(link: Link, links: t.Mapping[str, Link]) -> str:
    ports = sorted(name for name, other in links.items() if other.master == link.name)
    told = [*sorted(one for one in link.addresses if not one.startswith("fe80:")), *(f"port {one}" for one in ports)]
    return f"{link.name}{' (' + ', '.join(told) + ')' if told else ''}"
