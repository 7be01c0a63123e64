# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bridges, their ports and static FDB entries: desired state and observed state -> steps. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from .. import _params as p
from .._kernel.observed import RTPROT_STATIC, Link, View, Views
from .._kernel.steps import Step, step
from . import interfaces


@dataclass(frozen=True)
class Bridge:
    """A bridge, the names of its ports, and its static FDB entries as (MAC, port).

    exclusive: it is ours, and all of it is spoken of. Or it is somebody else's, with ports and routes of ours.
    """

    interface: interfaces.Interface
    mcast_snooping: bool
    flood: bool
    learning: bool
    ports: tuple[str, ...]
    fdb: frozenset[tuple[str, str]]
    exclusive: bool = True


def bridges_from(items: t.Sequence[dict[str, t.Any]]) -> list[Bridge]:
    """The C(bridges) parameter, validated."""
    result = []
    for i, item in enumerate(items):
        where = f"bridges[{i}]"
        ports = tuple(p.interface_name(f"{where}.ports", name) for name in item.get("ports") or [])
        p.unique(f"{where}.ports", ports)
        fdb = set()
        for j, entry in enumerate(item.get("fdb") or []):
            if entry["port"] not in ports:
                raise p.ParameterError(
                    f"{where}.fdb[{j}].port", entry["port"], f"must be one of the ports {list(ports)}"
                )
            fdb.add((t.cast(str, p.mac(f"{where}.fdb[{j}].mac", entry["mac"], multicast=None)), entry["port"]))
        p.unique(f"{where}.fdb.mac", (m for m, port in sorted(fdb)))
        result.append(
            Bridge(
                interface=_interface(where, item),
                exclusive=item["exclusive"],
                mcast_snooping=item["mcast_snooping"],
                flood=item["flood"],
                learning=item["learning"],
                ports=ports,
                fdb=frozenset(fdb),
            )
        )
    p.unique("bridges.name", ((b.interface.netns, b.interface.name) for b in result))
    p.unique("bridges.ports", ((b.interface.netns, port) for b in result for port in b.ports))
    return result


def _interface(where: str, item: dict[str, t.Any]) -> interfaces.Interface:
    if not item["exclusive"]:
        for name in ("mac", "mtu", "addresses"):
            if item.get(name):
                raise p.ParameterError(
                    f"{where}.{name}",
                    item[name],
                    "exclusive=false leaves the bridge itself to its owner: leave this out",
                )
    return interfaces.interface_from(where, item)


def missing(bridges: t.Iterable[Bridge], views: Views) -> list[str]:
    """Sentences about what another task has to make first. In check mode they are warnings, else errors."""
    result = interfaces.missing((bridge.interface for bridge in bridges), views)
    for bridge in bridges:
        view = views[bridge.interface.netns]
        if not bridge.exclusive and bridge.interface.name not in view.links:
            result.append(f"bridges.name: {bridge.interface.name!r}: no such bridge, and exclusive=false makes none")
        result.extend(
            f"bridges.ports: {name!r}: no such interface; make it first, with clustered.openvpn.veth for example"
            for name in bridge.ports
            if name not in view.links
        )
    return result


def plan_bridges(wanted: t.Sequence[Bridge], present: bool, views: Views) -> list[Step]:
    """Steps that make the bridges, or remove them. Ports stay when their bridge goes."""
    steps = []
    taken = {(bridge.interface.netns, port) for bridge in wanted for port in bridge.ports}
    if present:  # first, or a route that moves from one bridge to another would be there already
        for bridge in (b for b in wanted if b.exclusive):
            steps.extend(
                interfaces.drop_routes(bridge.interface, views[bridge.interface.netns].links.get(bridge.interface.name))
            )
    for i, bridge in enumerate(wanted):
        want = bridge.interface
        view = views[want.netns]
        have = view.links.get(want.name)
        interfaces.refuse_other_kind(f"bridges[{i}].name", want, have, "bridge")
        if not bridge.exclusive:
            steps.extend(_plan_shared(bridge, have or Link(want.name, None), present, view))
            continue
        if not present:
            if have is not None:
                steps.append(step("link_del", want.netns, dev=want.name))
            continue
        if have is None:
            snooping = int(bridge.mcast_snooping)
            steps.append(step("bridge_add", want.netns, dev=want.name, mac=want.mac, mtu=None, snooping=snooping))
            have = Link(want.name, "bridge", mac=want.mac, mcast_snooping=bridge.mcast_snooping)
        if have.mcast_snooping != bridge.mcast_snooping:
            steps.append(step("bridge_snooping", want.netns, dev=want.name, snooping=int(bridge.mcast_snooping)))
        steps.extend(interfaces.plan_link(replace(want, mtu=None), have))
        ports = _leave(bridge, taken, view) + _plan_ports(bridge, view)
        steps.extend(ports)
        # A bridge takes its MTU from its ports until it was set to another value: so it is set after they have joined.
        if want.mtu and (have.mtu != want.mtu or any(s.op == "link_master" for s in ports)):
            steps.append(step("link_mtu", want.netns, dev=want.name, mtu=want.mtu))
        steps.extend(interfaces.add_routes(want, have))
    return steps


def _plan_shared(bridge: Bridge, have: Link, present: bool, view: View) -> list[Step]:
    """Our part of a bridge that is somebody else's: what is named, and nothing else."""
    want = bridge.interface
    if present:
        return [*_plan_ports(bridge, view), *interfaces.add_routes(replace(want, addresses=have.addresses), have)]
    ours = want.routes & have.routes.get(RTPROT_STATIC, frozenset())
    steps = interfaces.drop_routes(replace(want, routes=frozenset()), replace(have, routes={RTPROT_STATIC: ours}))
    joined = [port for port in bridge.ports if port in view.links and view.links[port].master == want.name]
    return steps + [step("link_nomaster", want.netns, dev=port) for port in joined]


def _leave(bridge: Bridge, taken: set[tuple[str, str]], view: View) -> list[Step]:
    """Ports that are wanted on no bridge."""
    netns, name = bridge.interface.netns, bridge.interface.name
    return [
        step("link_nomaster", netns, dev=link.name)
        for link in sorted(view.links.values(), key=lambda x: x.name)
        if link.master == name and (netns, link.name) not in taken
    ]


def _plan_ports(bridge: Bridge, view: View) -> list[Step]:
    netns, name = bridge.interface.netns, bridge.interface.name
    steps = []
    for port in bridge.ports:
        link = view.links.get(port, Link(port, None))
        if link.master != name:
            steps.append(step("link_master", netns, dev=port, master=name))
            link = replace(link, fdb=frozenset(), flood=True, learning=True)
        if (link.flood, link.learning) != (bridge.flood, bridge.learning):
            flags = {"flood": _on(bridge.flood), "learning": _on(bridge.learning)}
            steps.append(step("port_set", netns, dev=port, **flags))
        wanted = {m for m, at in bridge.fdb if at == port}
        # A bridge has one entry for a MAC: one that is wanted at another port moves there.
        steps.extend(step("fdb_del", netns, dev=port, mac=m) for m in sorted(link.fdb - {m for m, at in bridge.fdb}))
        steps.extend(step("fdb_replace", netns, dev=port, mac=m) for m in sorted(wanted - link.fdb))
    return steps


def _on(flag: bool) -> str:
    return "on" if flag else "off"
