# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a cluster's layout must not collide with: itself, the host, and whatever else the host has of ours. Pure."""

from __future__ import annotations

import ipaddress
import typing as t

from .. import _params as p
from .lan import Address, Lan, Network, host_networks
from .retired import addresses_of

# Each with the parameter that it comes from.
Addresses = list[tuple[str, Address]]
Networks = list[tuple[str, Network]]


def among_themselves(addresses: Addresses, networks: Networks) -> None:
    """Refuse networks of the cluster that overlap, or hold the service address."""
    for n, (parameter, net) in enumerate(networks):
        for _parameter, address in addresses:
            if address in net:
                raise p.ParameterError(parameter, str(net), f"must not contain the service address {address}")
        for other, other_net in networks[:n]:
            if net.overlaps(other_net):
                raise p.ParameterError(parameter, str(net), f"overlaps {other} {other_net}; choose another network")


def with_host(
    wanted: t.Mapping[str, t.Any], ours: list[str], addresses: Addresses, place: Lan, networks: Networks
) -> None:
    """Refuse what the host has itself. ours: interfaces that the cluster makes."""
    host = host_networks(wanted.get("facts") or {}, ours)
    if host is None:
        return
    interface = wanted["interface"]
    if interface not in host:
        raise p.ParameterError("interface", interface, f"no such interface; this host has {', '.join(sorted(host))}")
    if place.has_ipv6 and not any(one.version == 6 for found in host.values() for one in found):
        raise p.ParameterError(
            "ipv6_internal_network",
            str(place.families[1].network),
            "this host has IPv6 switched off; switch it on, or leave IPv6 out of the cluster",
        )
    for name, found in host.items():
        for one in found:
            for parameter, address in addresses:
                # A host that is the member itself has it, at a place of ours.
                at_ours = place.uplink.host_is_member and name == ("lo" if one.version == 4 else interface)
                if one.ip == address and not (at_ours and one.network.num_addresses == 1):
                    raise p.ParameterError(
                        parameter,
                        str(address),
                        f"{name} carries it; take it off the host, or choose an address that no host has",
                    )
            for parameter, net in networks:
                if net.overlaps(one.network):
                    raise p.ParameterError(parameter, str(net), f"overlaps {one} of {name}; choose another network")


def with_others(
    now: t.Mapping[str, t.Any],
    place: Lan,
    addresses: Addresses,
    networks: Networks,
    others: t.Iterable[t.Mapping[str, t.Any]],
) -> None:
    """Refuse what another cluster of the host has already, or a bundle of tunnels."""
    for other in others:
        if other["name"] == now["name"]:
            continue
        whose = f"the {'bundle' if 'bundles' in other else 'cluster'} {other['name']} of this host has it"
        for parameter, address in addresses:
            if str(address) in {one["address"] for one in addresses_of(other)}:
                raise p.ParameterError(parameter, str(address), f"{whose}; choose another")
        taken = {n["name"] for n in other["namespaces"]}
        for member in now["members"]:
            if member["name"] in taken:
                raise p.ParameterError("members.name", member["name"], f"{whose}; choose another")
        for key in ("address", "ipv6_address") if place.uplink.members_on_lan else ():
            theirs_now = {m.get(key) for m in other["members"]}
            for member in now["members"]:
                if member.get(key, "") in theirs_now:
                    raise p.ParameterError(f"members.{key}", member[key], f"{whose}; choose another")
        mine, held = (x["failover"].get("placeholders") if x.get("failover") else None for x in (now, other))
        if mine and mine == held:
            raise p.ParameterError(
                "failover.placeholders", mine, f"{whose}; choose another clusterip_cluster_first_vrid"
            )
        theirs: list[Network] = [
            ipaddress.ip_interface(a).network for b in other["bridges"] for a in b.get("addresses", [])
        ]
        slices = [s[key] for s in other["servers"] for key in ("network", "network_ipv6") if key in s]
        theirs += [ipaddress.ip_network(one) for one in slices]
        bundles = [b for b in other.get("bundles", []) if not b["netns"]]
        theirs += [ipaddress.ip_network(one) for b in bundles for one in [*b["networks"], *b["addresses"]]]
        for parameter, net in networks:
            for their in theirs:
                if net.overlaps(their):
                    raise p.ParameterError(parameter, str(net), f"overlaps {their}: {whose}; choose another network")
