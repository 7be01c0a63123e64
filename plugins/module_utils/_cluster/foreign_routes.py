# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Routes and routing rules of the host that take packets away from the members, or lose theirs to them. Pure.

A wider route is none of these, since that of a member is preferred, unless its table is looked up before the main one.
A blackhole for a whole pool is the usual protection of slices that no member has.
"""

from __future__ import annotations

import ipaddress
import typing as t

from .._kernel.host_routes import LOCAL, MAIN, RTPROT_KERNEL, HostRoute, HostRule
from .._kernel.observed import RTPROT_CLUSTERIP
from .._kernel.routing import PROTOCOL as RTPROT_BUNDLE
from .._params import ParameterError
from .._state.cluster import Bridge, ClusterState
from .request import Network

Networks = t.Sequence[tuple[str, Network]]  # each with the parameter that it comes from
REMEDY = "remove it, or choose another network"
DISCARDS = ("blackhole", "unreachable", "prohibit", "throw")


def findings(
    now: ClusterState,
    previous: ClusterState | None,
    pools: Networks,
    routes: t.Sequence[HostRoute],
    rules: t.Sequence[HostRule],
) -> tuple[list[str], list[str]]:
    """Errors; and warnings, for networks that the installed cluster has already. C(pools): those of the instances."""
    owned = _Owned(now, previous)
    foreign = [route for route in routes if not owned.has(route)]
    used = {(rule.version, rule.table) for rule in rules if rule.kind == "lookup"} | {(4, MAIN), (6, MAIN)}
    errors: list[str] = []
    warnings: list[str] = []
    for parameter, network in (*_addresses(now), *_internal(now), *pools):
        slices = [
            one for one in _slices(now) if one.version == network.version and one.subnet_of(t.cast(t.Any, network))
        ]
        # Hosts that share the address have routes to each other's slices.
        others = now.cluster.shared and bool(slices)
        for route in foreign:
            dst = ipaddress.ip_network(route.dst)
            if (dst.version, route.table) in used and _takes(route, dst, network, slices, others):
                new = any(dst.overlaps(one) and one not in owned.networks for one in slices or [network])
                installed = owned.has_part_of(network) and not (new and not network.subnet_of(t.cast(t.Any, dst)))
                text = str(ParameterError(parameter, str(network), f"this host has the route {route}; {REMEDY}"))
                (warnings if installed else errors).append(text)
        for rule in rules:
            for reason in _before_main(rule, network, foreign):
                text = str(ParameterError(parameter, str(network), f"{reason}; {REMEDY}"))
                (warnings if owned.has_part_of(network) else errors).append(text)
    return errors, warnings


class _Owned:
    """The routes and networks of the cluster: those that it should have, and those that it had."""

    def __init__(self, now: ClusterState, previous: ClusterState | None) -> None:
        states = [now, *([previous] if previous else [])]
        bridges = [bridge for state in states for bridge in _bridges(state)]
        servers = [server for state in states for server in (*state.servers, *state.retired.servers)]
        self.devices = {bridge.name for bridge in bridges if bridge.exclusive}
        self.devices |= {server.device for server in servers if not server.netns}
        self.routes = {(route.dst, route.via) for bridge in bridges for route in bridge.routes}
        self.networks = {
            *(_slices(previous) if previous else ()),
            *(network for _name, network in (*_internal(previous), *_addresses(previous)) if previous),
        }

    def has(self, route: HostRoute) -> bool:
        """Whether the cluster, another one, or a bundle has made the route: those are compared by their states."""
        if route.protocol in (RTPROT_CLUSTERIP, int(RTPROT_BUNDLE)) or (route.table, route.protocol) == (
            LOCAL,
            RTPROT_KERNEL,
        ):
            return True
        if route.devices and set(route.devices) <= self.devices:
            return True
        return bool(route.gateways) and all((route.dst, gateway) in self.routes for gateway in route.gateways)

    def has_part_of(self, network: Network) -> bool:
        """Whether the installed cluster uses the network."""
        return any(one.version == network.version and one.subnet_of(t.cast(t.Any, network)) for one in self.networks)


def _bridges(state: ClusterState) -> tuple[Bridge, ...]:
    retired = state.retired
    return (*state.bridges, *retired.bridges, *retired.former_bridges, *retired.left)


def _slices(state: ClusterState) -> list[Network]:
    return [ipaddress.ip_network(one) for s in state.servers for one in (s.network, s.network_ipv6) if one]


def _internal(state: ClusterState | None) -> list[tuple[str, Network]]:
    bridges = [bridge for bridge in state.bridges if bridge.exclusive] if state else []
    networks = [ipaddress.ip_interface(one).network for bridge in bridges for one in bridge.addresses]
    return [("internal_network" if one.version == 4 else "ipv6_internal_network", one) for one in networks]


def _addresses(state: ClusterState | None) -> list[tuple[str, Network]]:
    found = [ipaddress.ip_network(one.address) for one in (state.addresses if state else ())]
    return [("address" if one.version == 4 else "ipv6_address", one) for one in found]


def _takes(route: HostRoute, dst: Network, network: Network, slices: t.Sequence[Network], others: bool) -> bool:
    """Whether a route is for the network or a part of it. C(others): only slices of this host count."""
    if dst.version != network.version or not dst.subnet_of(t.cast(t.Any, network)):
        return False
    if others:
        return any(dst.subnet_of(t.cast(t.Any, one)) for one in slices)
    return not (route.kind in DISCARDS and dst == network and dst not in slices)


def _before_main(rule: HostRule, network: Network, routes: t.Sequence[HostRoute]) -> t.Iterator[str]:
    """Reasons why all packets to the network never reach the main table's routes."""
    main_priority = 32766
    if rule.version != network.version or rule.priority >= main_priority or rule.selectors or rule.src:
        return
    if rule.dst and not network.subnet_of(t.cast(t.Any, ipaddress.ip_network(rule.dst))):
        return
    if rule.kind != "lookup":
        yield f"this host has the rule {rule}"
    for route in routes if rule.kind == "lookup" and rule.table not in (MAIN, LOCAL) else ():
        dst = ipaddress.ip_network(route.dst)
        if route.table != rule.table or dst.version != network.version or dst.prefixlen <= rule.suppress:
            continue
        if route.kind != "throw" and dst != network and network.subnet_of(t.cast(t.Any, dst)):
            yield f"this host has the route {route}, which the rule {rule} puts before the routes to members"
