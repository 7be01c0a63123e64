# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bridges, their ports and static FDB entries: parameters -> desired state; with the observed state -> steps. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from .. import _params as p
from .._kernel.observed import RTPROT_STATIC, Link, View, Views
from .._kernel.steps import Step, step
from . import interfaces


@dataclass(frozen=True)
class Bridge:
    """Desired state of a bridge: its interface, the names of its ports, and static FDB entries as (MAC, port).

    exclusive: unlisted ports, addresses, routes and FDB entries are removed. Otherwise the bridge is managed elsewhere,
    and the listed ports, routes and FDB entries are added to it.
    """

    interface: interfaces.Interface
    mcast_snooping: bool
    flood: bool
    learning: bool
    ports: tuple[str, ...]
    fdb: frozenset[tuple[str, str]]
    exclusive: bool = True


def bridges_from(items: t.Sequence[dict[str, t.Any]]) -> list[Bridge]:
    """The desired state from the C(bridges) parameter. Raises ParameterError."""
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
                    "exclusive=false leaves the bridge itself to its owner; leave this out",
                )
    return interfaces.interface_from(where, item)


def missing(bridges: t.Iterable[Bridge], views: Views) -> list[str]:
    """Error texts for bridges, ports and namespaces that must exist and do not."""
    result = interfaces.missing((bridge.interface for bridge in bridges), views)
    for bridge in bridges:
        view = views[bridge.interface.netns]
        if not bridge.exclusive and bridge.interface.name not in view.links:
            result.append(f"bridges.name: {bridge.interface.name!r}: no such bridge, and exclusive=false creates none")
        result.extend(
            f"bridges.ports: {name!r}: no such interface; create it first, for example with clustered.openvpn.veth"
            for name in bridge.ports
            if name not in view.links
        )
    return result


def plan_bridges(bridges: t.Sequence[Bridge], present: bool, views: Views) -> list[Step]:
    """Steps that create and update the bridges, or remove them. The ports of a removed bridge stay."""
    steps = []
    listed = {(bridge.interface.netns, port) for bridge in bridges for port in bridge.ports}
    if present:  # before others are added: a route may move from one bridge to another
        for bridge in (b for b in bridges if b.exclusive):
            steps.extend(
                interfaces.drop_routes(bridge.interface, views[bridge.interface.netns].links.get(bridge.interface.name))
            )
    for i, bridge in enumerate(bridges):
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
        ports = _detach_unlisted(bridge, listed, view) + _plan_ports(bridge, view)
        steps.extend(ports)
        # The kernel derives the MTU from the ports until it is set explicitly, so it is set after they are attached.
        if want.mtu and (have.mtu != want.mtu or any(s.op == "link_master" for s in ports)):
            steps.append(step("link_mtu", want.netns, dev=want.name, mtu=want.mtu))
        steps.extend(interfaces.add_routes(want, have))
    return steps


def _plan_shared(bridge: Bridge, have: Link, present: bool, view: View) -> list[Step]:
    """Add the listed ports, routes and FDB entries to a bridge that is managed elsewhere, or remove them from it."""
    want = bridge.interface
    if present:
        return [*_plan_ports(bridge, view), *interfaces.add_routes(replace(want, addresses=have.addresses), have)]
    ours = want.routes & have.routes.get(RTPROT_STATIC, frozenset())
    steps = interfaces.drop_routes(replace(want, routes=frozenset()), replace(have, routes={RTPROT_STATIC: ours}))
    attached = [port for port in bridge.ports if port in view.links and view.links[port].master == want.name]
    return steps + [step("link_nomaster", want.netns, dev=port) for port in attached]


def _detach_unlisted(bridge: Bridge, listed: set[tuple[str, str]], view: View) -> list[Step]:
    """Detach ports that no bridge of this task lists."""
    netns, name = bridge.interface.netns, bridge.interface.name
    return [
        step("link_nomaster", netns, dev=link.name)
        for link in sorted(view.links.values(), key=lambda x: x.name)
        if link.master == name and (netns, link.name) not in listed
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
        entries = {m for m, at in bridge.fdb if at == port}
        # A bridge has one entry per MAC address: replacing it at another port moves it there.
        steps.extend(step("fdb_del", netns, dev=port, mac=m) for m in sorted(link.fdb - {m for m, at in bridge.fdb}))
        steps.extend(step("fdb_replace", netns, dev=port, mac=m) for m in sorted(entries - link.fdb))
    return steps


def _on(flag: bool) -> str:
    return "on" if flag else "off"
