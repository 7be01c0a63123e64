# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Any interface (MAC, MTU, addresses, routes): parameters -> desired state; with the observed state -> steps. Pure."""

from __future__ import annotations

import ipaddress
import typing as t
from dataclasses import dataclass, replace

from .. import _params as p
from .._kernel.observed import RTPROT_STATIC, Link, Route, Views
from .._kernel.steps import Step, step


@dataclass(frozen=True)
class Interface:
    """Desired state of an interface. C(None): any value."""

    name: str
    netns: str
    mac: str | None = None
    mtu: int | None = None
    up: bool = True
    addresses: frozenset[str] = frozenset()
    routes: frozenset[Route] = frozenset()


# --- parameters -> desired state -------------------------------------------------------------------------------------


def interface_from(where: str, item: dict[str, t.Any]) -> Interface:
    """The desired state from the options in _module.INTERFACE_OPTIONS. Raises ParameterError."""
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


# --- prerequisites ---------------------------------------------------------------------------------------------------


def missing(interfaces: t.Iterable[Interface], views: Views) -> list[str]:
    """Error texts for namespaces that do not exist."""
    return [
        f"netns: {netns!r}: no such network namespace; create it first with clustered.openvpn.netns"
        for netns in sorted({i.netns for i in interfaces})
        if not views[netns].exists
    ]


# --- steps -----------------------------------------------------------------------------------------------------------


def refuse_other_kind(parameter: str, want: Interface, have: Link | None, kind: str) -> None:
    """Raise ParameterError if an interface of another kind has the name."""
    if have is not None and have.kind != kind:
        found = f"a {have.kind}" if have.kind else "a loopback or hardware interface"
        place = f" in namespace {want.netns}" if want.netns else ""
        raise p.ParameterError(
            parameter, want.name, f"this name belongs to {found}{place}; choose another, or remove that interface first"
        )


def plan_link(want: Interface, have: Link) -> list[Step]:
    """Steps that set MAC, MTU, addresses, and up or down, where they differ."""
    steps = []
    if want.mac and have.mac != want.mac:
        steps.append(step("link_mac", want.netns, dev=want.name, mac=want.mac))
    if want.mtu and have.mtu != want.mtu:
        steps.append(step("link_mtu", want.netns, dev=want.name, mtu=want.mtu))
    if have.up and not want.up:
        # First, because the kernel removes the IPv6 addresses of an interface that goes down.
        steps.append(step("link_down", want.netns, dev=want.name))
        lost = frozenset(a for a in have.addresses if ipaddress.ip_interface(a).version == 6)
        have = replace(have, up=False, addresses=have.addresses - lost)
    # Add before removing, so that a secondary address always has its primary.
    steps.extend(
        step("addr_add", want.netns, dev=want.name, address=a) for a in sorted(want.addresses - have.addresses)
    )
    extra = {a for a in have.addresses - want.addresses if not _kernel_made(a)}
    if any(_secondary(a, b) for a in extra for b in want.addresses | have.addresses - {a}):
        # Without it, the kernel removes the other addresses of a network together with the first.
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
    # The kernel removes the routes of an interface that goes down, so those that were observed do not count.
    if have is None or not have.up or not want.up:
        return frozenset()
    return have.routes.get(RTPROT_STATIC, frozenset())


def _has_ipv4(addresses: t.Iterable[str]) -> bool:
    return any("." in address for address in addresses)


def drop_routes(want: Interface, have: Link | None) -> list[Step]:
    """Steps that remove routes of the protocol static to destinations that are not listed."""
    kept = {r.dst for r in want.routes}
    return [
        step("route_del", want.netns, dev=want.name, dst=route.dst, via=route.via, proto="static")
        for route in sorted(_our_routes(want, have) - want.routes, key=lambda r: r.dst)
        if route.dst not in kept
    ]


def add_routes(want: Interface, have: Link) -> list[Step]:
    """Steps that add missing routes, and replace those whose gateway or source differs."""
    if not want.up:
        return []
    seen = _our_routes(want, have)
    if _has_ipv4(have.addresses) and not _has_ipv4(want.addresses):
        # The kernel removes the IPv4 routes of an interface together with its last IPv4 address.
        seen = frozenset(route for route in seen if ":" in route.dst)
    steps = []
    for route in sorted(want.routes - seen, key=lambda r: (r.via is not None, r.dst)):  # routes without gateway first
        steps.append(
            step(
                # Only routes of the protocol static are replaced. Another one to the same network makes the step fail.
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
