# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moving a NIC's addresses and routes to a bridge and back: plans, as lines of C(ip -batch). Pure.

Observed by C(ip -json), because it shows every attribute that an administrator may have set on the NIC. A route with an
attribute that this file does not support is refused, so that no setting is lost.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from .. import _params as p

FOREVER = 4294967295  # valid_life_time of a static address
DYNAMIC = ("dhcp", "ra", "redirect")  # protocols of routes that a service keeps renewing on the NIC
ROUTE_KEYS = {*("type", "dst", "gateway", "protocol", "scope", "metric", "prefsrc", "flags", "pref", "table", "dev")}

ANYWHERE = ("0.0.0.0/0", "::/0")

Routes = t.Sequence[t.Mapping[str, t.Any]]  # as ip -json shows them


@dataclass(frozen=True)
class InterfaceState:
    """An interface with its addresses, routes and ports as C(ip -json) shows them; "default" is 0.0.0.0/0 or ::/0."""

    name: str
    link: t.Mapping[str, t.Any]
    routes: Routes
    ports: tuple[str, ...] = ()

    @property
    def master(self) -> str | None:
        """The bridge that the interface is a port of."""
        return self.link.get("master")

    @property
    def addresses(self) -> list[t.Mapping[str, t.Any]]:
        """Addresses without the link-local ones, which the kernel adds itself."""
        return [a for a in self.link["addr_info"] if not (a["family"] == "inet6" and a["scope"] == "link")]

    @property
    def own_routes(self) -> list[t.Mapping[str, t.Any]]:
        """Routes without those of the kernel. Those without a gateway come first, since the others depend on them."""
        own = [r for r in self.routes if r.get("protocol") != "kernel"]
        return sorted(own, key=lambda r: "gateway" in r)

    def gateway(self) -> str | None:
        """The gateway of the IPv4 default route, or else of the IPv6 one."""
        default = [r["gateway"] for r in self.own_routes if r["dst"] in ANYWHERE and "gateway" in r]
        return min(default, key=lambda ip: ":" in ip, default=None)


@dataclass(frozen=True)
class Move:
    """The move of addresses and routes from one interface to another, as lines of C(ip -batch)."""

    source: InterfaceState
    target: str
    lines: tuple[str, ...]
    rollback: tuple[str, ...]  # undoes the lines; fails, without harm, for those that were not carried out
    last: tuple[str, ...] = ()  # after the check has passed

    @property
    def commands(self) -> list[str]:
        """The lines as shell commands."""
        return [f"ip {line}" for line in (*self.lines, *self.last)]


def refuse_dynamic(state: InterfaceState, parameter: str) -> None:
    """Raise ParameterError if the interface has addresses or routes that a move would lose."""
    remedy = "create the bridge in the system's network configuration instead, and use that one"
    for address in state.addresses:
        text = f"{address['local']}/{address['prefixlen']}"
        if address.get("dynamic") or address.get("valid_life_time", FOREVER) != FOREVER:
            raise p.ParameterError(
                parameter, state.name, f"its address {text} is dynamic (DHCP or router advertisement); {remedy}"
            )
        if "address" in address:
            raise p.ParameterError(parameter, state.name, f"its address {text} has a peer; {remedy}")
    for route in state.own_routes:
        if route.get("protocol") in DYNAMIC:
            raise p.ParameterError(
                parameter,
                state.name,
                f"its route to {route['dst']} is dynamic (DHCP, router advertisement or redirect); {remedy}",
            )
        if unknown := set(route) - ROUTE_KEYS:
            attributes = ", ".join(sorted(unknown))
            message = f"its route to {route['dst']} has unsupported attributes ({attributes}); {remedy}"
            raise p.ParameterError(parameter, state.name, message)


def plan_attach(nic: InterfaceState | None, bridge: InterfaceState | None, interface: str, name: str) -> Move | None:
    """Create the bridge C(name) with the NIC C(interface) as its port, and move the NIC's addresses and routes to it.

    None if the NIC is a port of that bridge already. Raises ParameterError.
    """
    if nic is None:
        raise p.ParameterError("interface", interface, "no such interface on this host")
    if bridge is not None and nic.master == name:
        return None
    if nic.master is not None:
        raise p.ParameterError("interface", interface, f"is a port of {nic.master} already; use that as the bridge")
    if bridge is not None:
        raise p.ParameterError(
            "bridge", name, f"exists already, and {interface} is not one of its ports; choose another name"
        )
    refuse_dynamic(nic, "interface")
    lines = (
        f"link add name {name} address {nic.link['address']} mtu {nic.link['mtu']} type bridge mcast_snooping 0",
        f"link set dev {name} up",
        *_removal(nic),
        f"link set dev {nic.name} master {name}",
        *_addition(nic, name),
    )
    return Move(
        nic, name, lines, (f"link set dev {interface} nomaster", f"link del dev {name}", *_addition(nic, interface))
    )


def plan_detach(nic: InterfaceState | None, bridge: InterfaceState | None, interface: str, name: str) -> Move | None:
    """Move the bridge's addresses and routes to the NIC, and remove the bridge.

    None if there is no such bridge. Raises ParameterError.
    """
    if bridge is None:
        return None
    if nic is None or nic.master != name:
        raise p.ParameterError(
            "interface", interface, f"is not a port of {name}; give the port that the addresses move to"
        )
    if others := ", ".join(sorted(set(bridge.ports) - {interface})):
        raise p.ParameterError("bridge", name, f"has other ports, {others}; detach them first")
    refuse_dynamic(bridge, "bridge")
    return Move(
        bridge,
        interface,
        lines=(*_removal(bridge), f"link set dev {interface} nomaster", *_addition(bridge, interface)),
        rollback=(
            *_removal(replace(bridge, name=interface)),
            f"link set dev {interface} master {name}",
            *_addition(bridge, name),
        ),
        last=(f"link del dev {name}",),
    )


def _removal(state: InterfaceState) -> list[str]:
    routes = [f"route del {_route(r)} dev {state.name}{_selector(r)}" for r in reversed(state.own_routes)]
    # In reverse: when the first address of a network is removed, the kernel may remove the others with it.
    return routes + [f"addr del {a['local']}/{a['prefixlen']} dev {state.name}" for a in reversed(state.addresses)]


def _addition(state: InterfaceState, dev: str) -> list[str]:
    addresses = [f"addr add {_address(a, dev)}" for a in state.addresses]
    # There may be several IPv4 routes with the same destination and metric.
    verbs = {True: "add", False: "append"}
    routes = [
        (verbs[":" in r["dst"]], f"{_route(r)} dev {dev}{_selector(r)}{_attributes(r)}") for r in state.own_routes
    ]
    return addresses + [f"route {verb} {text}" for verb, text in routes]


def _address(a: t.Mapping[str, t.Any], dev: str) -> str:
    words = [f"{a['local']}/{a['prefixlen']}", f"dev {dev}"]
    if a["family"] == "inet":
        words += [f"broadcast {a['broadcast']}"] if "broadcast" in a else []
        alias = a["label"].partition(":")[2]
        words += [f"scope {a['scope']}", f"label {dev}{':' if alias else ''}{alias}"]
    else:
        words.append("nodad")  # it was in use on the NIC
    return " ".join(words + (["noprefixroute"] if a.get("noprefixroute") else []))


def _route(route: t.Mapping[str, t.Any]) -> str:
    kind = f"{route['type']} " if route.get("type", "unicast") != "unicast" else ""
    via = f" via {route['gateway']}" if "gateway" in route else ""
    return f"{kind}{route['dst']}{via}"


def _selector(route: t.Mapping[str, t.Any]) -> str:
    return "".join(f" {key} {route[key]}" for key in ("table", "metric") if key in route)


def _attributes(route: t.Mapping[str, t.Any]) -> str:
    names = {"protocol": "proto", "scope": "scope", "prefsrc": "src", "pref": "pref"}
    words = [f" {word} {route[key]}" for key, word in names.items() if key in route]
    return "".join(words) + (" onlink" if "onlink" in route.get("flags", []) else "")
