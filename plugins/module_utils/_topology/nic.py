# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A NIC that becomes the port of a bridge, its addresses and routes with it: what iproute2 shows -> C(ip -batch). Pure.

Here iproute2 is used as it is, not pyroute2: everything that an administrator may have given to the NIC is to come
along, and C(ip -json) tells all of it. What is not known here is refused, not left behind.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from .. import _params as p

FOREVER = 4294967295  # valid_life_time of a static address
LEARNED = ("dhcp", "ra", "redirect")  # protocols of routes that somebody keeps renewing on the NIC
ROUTE_KEYS = {*("type", "dst", "gateway", "protocol", "scope", "metric", "prefsrc", "flags", "pref", "table", "dev")}

ANYWHERE = ("0.0.0.0/0", "::/0")

Shown = t.Sequence[t.Mapping[str, t.Any]]  # of ip -json


@dataclass(frozen=True)
class Place:
    """An interface with what is on it, as C(ip -json) shows it; but "default" is 0.0.0.0/0 or ::/0."""

    name: str
    link: t.Mapping[str, t.Any]
    routes: Shown
    ports: tuple[str, ...] = ()

    @property
    def master(self) -> str | None:
        """The bridge that it is a port of."""
        return self.link.get("master")

    @property
    def addresses(self) -> list[t.Mapping[str, t.Any]]:
        """Those that are not the kernel's own."""
        return [a for a in self.link["addr_info"] if not (a["family"] == "inet6" and a["scope"] == "link")]

    @property
    def own_routes(self) -> list[t.Mapping[str, t.Any]]:
        """Those that are not the kernel's own; without a gateway first, since the others need them."""
        own = [r for r in self.routes if r.get("protocol") != "kernel"]
        return sorted(own, key=lambda r: "gateway" in r)

    def gateway(self) -> str | None:
        """Of the default route of IPv4, or else of IPv6."""
        default = [r["gateway"] for r in self.own_routes if r["dst"] in ANYWHERE and "gateway" in r]
        return min(default, key=lambda ip: ":" in ip, default=None)


@dataclass(frozen=True)
class Move:
    """All that is on an interface goes to another one: lines for C(ip -batch)."""

    source: Place
    target: str
    lines: tuple[str, ...]
    back: tuple[str, ...]  # undo them; what was not done fails then, and that is well
    last: tuple[str, ...] = ()  # when all went well

    @property
    def commands(self) -> list[str]:
        """As an administrator would type them."""
        return [f"ip {line}" for line in (*self.lines, *self.last)]


def refuse(place: Place, parameter: str) -> None:
    """What would not survive the move; raises ParameterError."""
    remedy = "make the bridge in the system's own network configuration, and name it instead"
    for address in place.addresses:
        text = f"{address['local']}/{address['prefixlen']}"
        if address.get("dynamic") or address.get("valid_life_time", FOREVER) != FOREVER:
            raise p.ParameterError(parameter, place.name, f"its address {text} is leased or learned: {remedy}")
        if "address" in address:
            raise p.ParameterError(parameter, place.name, f"its address {text} has a peer: {remedy}")
    for route in place.own_routes:
        if route.get("protocol") in LEARNED:
            raise p.ParameterError(parameter, place.name, f"its route to {route['dst']} was learned: {remedy}")
        if unknown := set(route) - ROUTE_KEYS:
            what = ", ".join(sorted(unknown))
            raise p.ParameterError(parameter, place.name, f"its route to {route['dst']} has {what}: {remedy}")


def plan_take(nic: Place | None, bridge: Place | None, interface: str, name: str) -> Move | None:
    """Make the bridge, with the NIC as its port and all that was on it. None: it is so."""
    if nic is None:
        raise p.ParameterError("interface", interface, "no such interface on this host")
    if bridge is not None and nic.master == name:
        return None
    if nic.master is not None:
        raise p.ParameterError("interface", interface, f"is a port of {nic.master} already; name that as the bridge")
    if bridge is not None:
        raise p.ParameterError(
            "bridge", name, f"is there already, and {interface} is none of its ports: choose another"
        )
    refuse(nic, "interface")
    lines = (
        f"link add name {name} address {nic.link['address']} mtu {nic.link['mtu']} type bridge mcast_snooping 0",
        f"link set dev {name} up",
        *_off(nic),
        f"link set dev {nic.name} master {name}",
        *_on(nic, name),
    )
    return Move(nic, name, lines, (f"link set dev {interface} nomaster", f"link del dev {name}", *_on(nic, interface)))


def plan_give_back(nic: Place | None, bridge: Place | None, interface: str, name: str) -> Move | None:
    """Put onto the NIC what is on the bridge, and remove that. None: there is no bridge."""
    if bridge is None:
        return None
    if nic is None or nic.master != name:
        raise p.ParameterError("interface", interface, f"is no port of {name}; name the one that its addresses go to")
    if others := ", ".join(sorted(set(bridge.ports) - {interface})):
        raise p.ParameterError("bridge", name, f"has other ports, {others}: take them off it first")
    refuse(bridge, "bridge")
    return Move(
        bridge,
        interface,
        lines=(*_off(bridge), f"link set dev {interface} nomaster", *_on(bridge, interface)),
        back=(*_off(replace(bridge, name=interface)), f"link set dev {interface} master {name}", *_on(bridge, name)),
        last=(f"link del dev {name}",),
    )


def _off(place: Place) -> list[str]:
    routes = [f"route del {_route(r)} dev {place.name}{_which(r)}" for r in reversed(place.own_routes)]
    # The last one first: with a network's first address the kernel may take the others.
    return routes + [f"addr del {a['local']}/{a['prefixlen']} dev {place.name}" for a in reversed(place.addresses)]


def _on(place: Place, dev: str) -> list[str]:
    addresses = [f"addr add {_address(a, dev)}" for a in place.addresses]
    # Of IPv4 there may be more than one with the same destination and metric.
    verbs = {True: "add", False: "append"}
    routes = [(verbs[":" in r["dst"]], f"{_route(r)} dev {dev}{_which(r)}{_rest(r)}") for r in place.own_routes]
    return addresses + [f"route {verb} {text}" for verb, text in routes]


def _address(a: t.Mapping[str, t.Any], dev: str) -> str:
    words = [f"{a['local']}/{a['prefixlen']}", f"dev {dev}"]
    if a["family"] == "inet":
        words += [f"broadcast {a['broadcast']}"] if "broadcast" in a else []
        alias = a["label"].partition(":")[2]
        words += [f"scope {a['scope']}", f"label {dev}{':' if alias else ''}{alias}"]
    else:
        words.append("nodad")  # it was in use a moment ago
    return " ".join(words + (["noprefixroute"] if a.get("noprefixroute") else []))


def _route(route: t.Mapping[str, t.Any]) -> str:
    kind = f"{route['type']} " if route.get("type", "unicast") != "unicast" else ""
    via = f" via {route['gateway']}" if "gateway" in route else ""
    return f"{kind}{route['dst']}{via}"


def _which(route: t.Mapping[str, t.Any]) -> str:
    return "".join(f" {key} {route[key]}" for key in ("table", "metric") if key in route)


def _rest(route: t.Mapping[str, t.Any]) -> str:
    names = {"protocol": "proto", "scope": "scope", "prefsrc": "src", "pref": "pref"}
    words = [f" {word} {route[key]}" for key, word in names.items() if key in route]
    return "".join(words) + (" onlink" if "onlink" in route.get("flags", []) else "")
