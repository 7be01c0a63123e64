# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Namespaces, veth pairs and interfaces in general: desired state and observed state -> steps. Pure."""

from __future__ import annotations

import ipaddress
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.clustered.openvpn.plugins.module_utils import _params as p
from ansible_collections.clustered.openvpn.plugins.module_utils._observed import RTPROT_STATIC, Link, Route, View, Views
from ansible_collections.clustered.openvpn.plugins.module_utils._plan import Step, step


@dataclass(frozen=True)
class Namespace:
    """A network namespace with its loopback up."""

    name: str
    sysctls: t.Mapping[str, str]


@dataclass(frozen=True)
class Interface:
    """What an interface should be. C(None) means: as it comes."""

    name: str
    netns: str
    mac: str | None = None
    mtu: int | None = None
    up: bool = True
    addresses: frozenset[str] = frozenset()
    routes: frozenset[Route] = frozenset()


@dataclass(frozen=True)
class Veth:
    """A pair."""

    end: Interface
    peer: Interface


# --- parameters -> desired state -------------------------------------------------------------------------------------


def namespaces_from(items: t.Sequence[dict[str, t.Any]]) -> list[Namespace]:
    """The C(namespaces) parameter, validated."""
    result = []
    for i, item in enumerate(items):
        where = f"namespaces[{i}]"
        sysctls = {str(k): sysctl_value(v) for k, v in (item.get("sysctls") or {}).items()}
        for key in sysctls:
            if not key.startswith(("net.", "net/")):
                raise p.ParameterError(f"{where}.sysctls", key, "only net.* belongs to a network namespace")
            p.text(f"{where}.sysctls", key)
            if not sysctls[key].isascii():
                raise p.ParameterError(f"{where}.sysctls.{key}", sysctls[key], "a sysctl's value is ASCII text")
            p.text(f"{where}.sysctls.{key}", sysctls[key])
            if ".." in key or key.startswith("/"):
                raise p.ParameterError(f"{where}.sysctls", key, "write a key as sysctl(8) does: net.ipv4.ip_forward")
        result.append(Namespace(p.netns_name(f"{where}.name", item["name"]), sysctls))
    p.unique("namespaces.name", (n.name for n in result))
    return result


def veths_from(items: t.Sequence[dict[str, t.Any]]) -> list[Veth]:
    """The C(veths) parameter, validated."""
    result = [
        Veth(interface_from(f"veths[{i}]", item), interface_from(f"veths[{i}].peer", item["peer"]))
        for i, item in enumerate(items)
    ]
    ends = [end for veth in result for end in (veth.end, veth.peer)]
    p.unique("veths.name", ((end.netns, end.name) for end in ends))
    p.unique("veths.routes.dst", ((end.netns, route.dst) for end in ends for route in sorted(end.routes, key=str)))
    return result


def sysctl_value(value: t.Any) -> str:
    """A sysctl's value as the kernel prints it: numbers parted by single tabs become single blanks, true is 1."""
    return str(int(value)) if isinstance(value, bool) else " ".join(str(value).split())


def interface_from(where: str, item: dict[str, t.Any]) -> Interface:
    routes = set()
    for j, route in enumerate(item.get("routes") or []):
        at = f"{where}.routes[{j}]"
        via = p.address(f"{at}.via", route["via"]) if route.get("via") else None
        src = p.address(f"{at}.src", route["src"]) if route.get("src") else None
        routes.add(Route(p.destination(f"{at}.dst", route["dst"], via=via), via, src))
    p.unique(f"{where}.routes.dst", sorted(r.dst for r in routes))
    mtu = item.get("mtu")
    if mtu is not None and not 68 <= mtu <= 65535:
        raise p.ParameterError(f"{where}.mtu", mtu, "an MTU lies between 68 and 65535")
    up = item.get("up")
    return Interface(
        name=p.interface_name(f"{where}.name", item["name"]),
        netns=p.netns_name(f"{where}.netns", item.get("netns"), allow_empty=True),
        mac=p.mac(f"{where}.mac", item.get("mac")),
        mtu=mtu,
        up=True if up is None else up,
        addresses=frozenset(p.interface_address(f"{where}.addresses", a) for a in item.get("addresses") or []),
        routes=frozenset(routes),
    )


# --- what must be there already --------------------------------------------------------------------------------------


def missing(interfaces: t.Iterable[Interface], views: Views) -> list[str]:
    """Sentences about what another task has to make first. In check mode they are warnings, else errors."""
    return [
        f"netns: {netns!r}: no such network namespace; make it first with clustered.openvpn.netns"
        for netns in sorted({i.netns for i in interfaces})
        if not views[netns].exists
    ]


# --- steps -----------------------------------------------------------------------------------------------------------


def plan_namespaces(wanted: t.Iterable[Namespace], present: bool, views: Views) -> list[Step]:
    """Steps that make the namespaces, or remove them."""
    steps = []
    for ns in wanted:
        view = views[ns.name]
        if not present:
            if view.exists:
                steps.append(step("netns_del", name=ns.name))
            continue
        if not view.exists:
            steps.append(step("netns_add", name=ns.name))
        loopback = view.links.get("lo")
        if loopback is None or not loopback.up:
            steps.append(step("link_up", ns.name, dev="lo"))
        steps.extend(plan_sysctls(ns.name, ns.sysctls, view))
    return steps


def plan_sysctls(netns: str, wanted: t.Mapping[str, str], view: View) -> list[Step]:
    """Steps that set what differs, in the order given."""
    return [
        step("sysctl", netns, key=key, value=value) for key, value in wanted.items() if view.sysctls.get(key) != value
    ]


def plan_veths(wanted: t.Iterable[Veth], present: bool, views: Views) -> list[Step]:
    """Steps that make the pairs, or remove them. Removing one end removes both."""
    steps = []
    gone: set[tuple[str, str]] = set()
    for i, veth in enumerate(wanted):
        ends = (veth.end, veth.peer)
        have = [None if (e.netns, e.name) in gone else views[e.netns].links.get(e.name) for e in ends]
        for end, link in zip(ends, have):
            refuse_other_kind("veths" + f"[{i}].name", end, link, "veth")
        paired = _paired(*have)
        if not (present and paired):
            for end, link in zip(ends, have):
                if link is not None and (end.netns, end.name) not in gone:
                    steps.append(step("link_del", end.netns, dev=end.name))
                    # The other end goes with it, wherever it is.
                    gone.add((end.netns, end.name))
                    gone.update((v.netns, x.name) for v in views.values() for x in v.links.values() if _paired(link, x))
        if not present:
            continue
        if not paired:
            steps.append(_veth_add(veth))
            have = [Link(e.name, "veth", mac=e.mac, mtu=e.mtu) for e in ends]
        for end, link in zip(ends, have):
            steps.extend(drop_routes(end, link))  # before the address goes that the kernel drops them with
            steps.extend(plan_link(end, t.cast(Link, link)))
        # A route needs its interface up, and an interface has carrier when both of its ends are up.
        for end, link in zip(ends, have):
            steps.extend(add_routes(end, t.cast(Link, link)))
    return steps


def refuse_other_kind(parameter: str, want: Interface, have: Link | None, kind: str) -> None:
    if have is not None and have.kind != kind:
        found = f"a {have.kind}" if have.kind else "a loopback or hardware interface"
        place = f" in namespace {want.netns}" if want.netns else ""
        raise p.ParameterError(
            parameter, want.name, f"this name belongs to {found}{place}; choose another, or remove that interface first"
        )


def _paired(a: Link | None, b: Link | None) -> bool:
    # Both directions are compared: an index alone is unique in its own namespace only.
    return a is not None and b is not None and a.peer_index == b.index and b.peer_index == a.index


def _veth_add(veth: Veth) -> Step:
    # "netns NAME" cannot say "the host's own": the end that is there comes first.
    end, peer = (veth.peer, veth.end) if veth.end.netns and not veth.peer.netns else (veth.end, veth.peer)
    return step(
        "veth_add",
        end.netns,
        dev=end.name,
        mac=end.mac,
        mtu=end.mtu,
        peer=peer.name,
        peer_netns=peer.netns if peer.netns != end.netns else None,
        peer_mac=peer.mac,
        peer_mtu=peer.mtu,
    )


def plan_link(want: Interface, have: Link) -> list[Step]:
    """MAC, MTU, addresses, up or down: just what differs."""
    steps = []
    if want.mac and have.mac != want.mac:
        steps.append(step("link_mac", want.netns, dev=want.name, mac=want.mac))
    if want.mtu and have.mtu != want.mtu:
        steps.append(step("link_mtu", want.netns, dev=want.name, mtu=want.mtu))
    if have.up and not want.up:
        # First, for the kernel takes an interface's IPv6 addresses away with it.
        steps.append(step("link_down", want.netns, dev=want.name))
        lost = frozenset(a for a in have.addresses if ipaddress.ip_interface(a).version == 6)
        have = replace(have, up=False, addresses=have.addresses - lost)
    # Added before removed: an address that others depend on (a secondary's primary) never leaves a gap.
    steps.extend(
        step("addr_add", want.netns, dev=want.name, address=a) for a in sorted(want.addresses - have.addresses)
    )
    extra = {a for a in have.addresses - want.addresses if not _kernel_made(a)}
    if any(_secondary(a, b) for a in extra for b in want.addresses | have.addresses - {a}):
        # Or the kernel takes the other addresses of a network along with its first.
        key = f"net/ipv4/conf/{want.name}/promote_secondaries"
        steps.append(step("sysctl", want.netns, key=key, value="1"))
    steps.extend(step("addr_del", want.netns, dev=want.name, address=a) for a in sorted(extra))
    if want.up != have.up:
        steps.append(step("link_up", want.netns, dev=want.name))
    return steps


def _secondary(a: str, b: str) -> bool:
    one, other = ipaddress.ip_interface(a), ipaddress.ip_interface(b)
    return one.version == 4 and one.network == other.network


def _kernel_made(address: str) -> bool:
    ip = ipaddress.ip_interface(address)
    return ip.version == 6 and ip.is_link_local


def _our_routes(want: Interface, have: Link | None) -> frozenset[Route]:
    # The kernel drops an interface's routes when it goes down: what was seen then does not count.
    if have is None or not have.up or not want.up:
        return frozenset()
    return have.routes.get(RTPROT_STATIC, frozenset())


def _has_ipv4(addresses: t.Iterable[str]) -> bool:
    return any("." in address for address in addresses)


def drop_routes(want: Interface, have: Link | None) -> list[Step]:
    kept = {r.dst for r in want.routes}
    return [
        step("route_del", want.netns, dev=want.name, dst=route.dst, via=route.via, proto="static")
        for route in sorted(_our_routes(want, have) - want.routes, key=lambda r: r.dst)
        if route.dst not in kept
    ]


def add_routes(want: Interface, have: Link) -> list[Step]:
    if not want.up:
        return []
    seen = _our_routes(want, have)
    if _has_ipv4(have.addresses) and not _has_ipv4(want.addresses):
        # With its last IPv4 address an interface loses all of its routes of IPv4.
        seen = frozenset(route for route in seen if ":" in route.dst)
    steps = []
    for route in sorted(want.routes - seen, key=lambda r: (r.via is not None, r.dst)):  # direct ones first
        steps.append(
            step(
                # Only a route of ours is replaced. Somebody else's for the same network makes the step fail.
                "route_replace" if route.dst in {r.dst for r in seen} else "route_add",
                want.netns,
                dev=want.name,
                dst=route.dst,
                via=route.via,
                src=route.src,
                proto="static",
            )
        )
    return steps
