# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The routes and routing rules that a bundle should have. Pure.

Each tunnel has a routing table with one route, which packets with the tunnel's mark use. The main table has a route to
the other site over all tunnels at once. Marked packets do not use it; a strict rp_filter does, and connections of this
host get their source address, reordering and congestion control from it.
"""

from __future__ import annotations

from .._kernel.routing import MAIN, MultiRoute, RoutingRule
from .bundle import Bundle, Tunnel, family

DEFAULT = {"ip": "0.0.0.0/0", "ip6": "::/0"}
RouteKey = tuple[str, int, str]  # family, routing table, destination


def desired_rules(bundle: Bundle) -> list[RoutingRule]:
    """Packets with the mark of a tunnel use its routing table."""
    return [
        RoutingRule(one, bundle.rule_priority, tunnel.mark, tunnel.mark)
        for tunnel in bundle.tunnels
        for one in bundle.families
        if tunnel.pair(one)
    ]


def desired_routes(bundle: Bundle) -> dict[RouteKey, MultiRoute]:
    """The routes of all tables, in the order in which the kernel accepts them."""
    routes: dict[RouteKey, MultiRoute] = {}
    for one in bundle.families:
        legs = [(pair.peer, tunnel.device, 1) for tunnel in bundle.tunnels for pair in [tunnel.pair(one)] if pair]
        for tunnel in bundle.tunnels:
            own = [leg for leg in legs if leg[1] == tunnel.device]
            if own:  # a tunnel that is being removed may have no IPv6 addresses yet
                routes.update(_peer_route(tunnel, one))
                routes[one, tunnel.mark, DEFAULT[one]] = MultiRoute(frozenset(own))
        source = next((address for address in bundle.addresses if family(address) == one), None)
        for network in bundle.of_family(one):
            routes[one, MAIN, network] = MultiRoute(
                frozenset(legs), source, bundle.reordering, bundle.congestion_control
            )
    return routes


def destinations(bundle: Bundle) -> dict[str, str]:
    """Parameter -> destination of each route in the main table: the host must have no other route to it."""
    peers = {
        f"tunnels[{i}].addresses.peer": network
        for i, tunnel in enumerate(bundle.tunnels)
        for _family, _table, network in _peer_route(tunnel, "ip6")
    }
    return {**{f"networks[{i}]": network for i, network in enumerate(bundle.networks)}, **peers}


def host_prefix(address: str) -> str:
    """An address as a prefix of full length."""
    return f"{address}/{128 if ':' in address else 32}"


def _peer_route(tunnel: Tunnel, one: str) -> dict[RouteKey, MultiRoute]:
    """A host route to the IPv6 peer: the kernel refuses a gateway that the route over all tunnels covers.

    Given the peer's address beside the local one, the kernel adds this route itself, but a moment later. IPv4 must not
    have it: a strict rp_filter would drop packets from the peer that arrive on other tunnels. IPv6 has no rp_filter.
    """
    peers = [pair.peer for pair in tunnel.pairs if pair.family == one == "ip6"]
    return {(one, MAIN, host_prefix(peer)): MultiRoute(frozenset({("", tunnel.device, 1)})) for peer in peers}
