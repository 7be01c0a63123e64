# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bundle of tunnels as one end is to have it: validated parameters, and the nftables table that spreads them. Pure.

The tunnels that are in the spread are its state at run time: the comment of the rule that spreads says which they are,
and who plans the table takes them from there, so that only the watch of the tunnels ever decides about them.
"""

from __future__ import annotations

import ipaddress
import math
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.clustered.openvpn.plugins.module_utils import _buckets
from ansible_collections.clustered.openvpn.plugins.module_utils import _params as p
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import cluster_name
from ansible_collections.clustered.openvpn.plugins.module_utils._ruleset import Chain, Listing, Rule, Table, rules_of

MAX_TUNNELS = 64
MAX_SLOTS = 1024  # weights without a common divisor: more than that says nothing, and makes rules long
FLOW_BUCKETS = 256
FLOW_SEED = 0x1
MTU = (1280, 65535)  # IPv6 needs the former
TIMEOUT = (0.2, 60.0)
LIVE = "live:"  # what the comment of the spreading rule begins with
MARK_MAX = 0xFFFFFFFF
RATE_MAX = 100_000.0  # Mbit/s

TUNNEL_OPTIONS: dict[str, t.Any] = {
    "number": {"type": "int", "required": True},
    "device": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "mark": {"type": "int", "required": True},
    "weight": {"type": "int", "default": 1},
    "rate": {"type": "float", "default": 0},
    "addresses": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"local": {"type": "str", "required": True}, "peer": {"type": "str", "required": True}},
    },
}


@dataclass(frozen=True)
class Pair:
    """The two addresses of a tunnel: this end's, and the other's."""

    local: str
    peer: str

    @property
    def family(self) -> str:
        """As nftables calls it."""
        return family(self.local)


@dataclass(frozen=True)
class Tunnel:
    """One tunnel. C(mark): what its packets are marked with, which is its routing table's number as well."""

    number: int
    device: str
    port: int
    mark: int
    weight: int
    rate: int  # bits in a second; 0: no limit
    pairs: tuple[Pair, ...]

    @property
    def probed(self) -> Pair:
        """The addresses that the watch uses; IPv4, which every tunnel has."""
        return next(pair for pair in self.pairs if pair.family == "ip")

    def pair(self, wanted: str) -> Pair | None:
        """Its addresses of a family."""
        return next((pair for pair in self.pairs if pair.family == wanted), None)


@dataclass(frozen=True)
class Bundle:
    """One end of a bundle."""

    name: str
    tunnels: tuple[Tunnel, ...]
    networks: tuple[str, ...]  # what is behind the other end, its addresses in the bundle included
    netns: str = ""
    device_type: str = "tun"
    spread: str = "per_packet"
    snat: str = "none"
    addresses: tuple[str, ...] = ()  # this end's in the bundle, whatever tunnel packets take
    former_addresses: tuple[str, ...] = ()  # to be taken away
    mtu: int = 1448
    queue: int = 1000
    user: str = "openvpn"
    group: str = "openvpn"
    timeout: float = 1.2  # seconds; 0: no tunnel ever leaves the spread
    probe_port: int = 11940
    reordering: int = 0
    congestion_control: str = ""
    rule_priority: int = 10000

    @property
    def table(self) -> str:
        """Of nftables. No cluster's name has a dot, so none of theirs is called like this."""
        return f"clustered_openvpn_{self.name}.bundle"

    @property
    def alias(self) -> str:
        """The devices' remark by which they are known as this bundle's."""
        return f"clustered.openvpn bundle {self.name}"

    @property
    def families(self) -> list[str]:
        """Those that the tunnels have addresses of."""
        return [one for one in ("ip", "ip6") if any(tunnel.pair(one) for tunnel in self.tunnels)]

    def of_family(self, wanted: str) -> list[str]:
        """The networks of a family."""
        return [network for network in self.networks if family(network) == wanted]


def family(address: str) -> str:
    """ip or ip6."""
    return "ip6" if ":" in address else "ip"


# --- parameters -------------------------------------------------------------------------------------------------------


def bundle_from(params: t.Mapping[str, t.Any]) -> Bundle:
    """Parameters of the module -> a bundle. Raises ParameterError."""
    name = cluster_name("name", params["name"])
    netns = p.netns_name("netns", params.get("netns"), allow_empty=True)
    tunnels = tuple(_tunnel(f"tunnels[{i}]", item) for i, item in enumerate(params["tunnels"]))
    if not 1 <= len(tunnels) <= MAX_TUNNELS:
        raise p.ParameterError("tunnels", len(tunnels), f"a bundle has 1 to {MAX_TUNNELS} tunnels")
    for key in ("number", "device", "port", "mark"):
        p.unique(f"tunnels[].{key}", (getattr(tunnel, key) for tunnel in tunnels))
    p.unique("tunnels[].addresses", (one for tunnel in tunnels for x in tunnel.pairs for one in (x.local, x.peer)))
    slots({tunnel.number: tunnel.weight for tunnel in tunnels})
    networks = tuple(str(p.network(f"networks[{i}]", net)) for i, net in enumerate(params["networks"]))
    if not networks:
        raise p.ParameterError("networks", [], "name the networks behind the other end")
    p.unique("networks", networks)
    addresses = tuple(p.address("addresses", one) for one in params.get("addresses") or [])
    p.unique("addresses", map(family, addresses))
    result = Bundle(
        name=name,
        tunnels=tunnels,
        networks=networks,
        netns=netns,
        addresses=addresses,
        former_addresses=tuple(p.address("former_addresses", one) for one in params.get("former_addresses") or []),
        mtu=_within("mtu", params["mtu"], *MTU),
        queue=_within("queue", params["queue"], 1, 100000),
        timeout=_timeout(params["timeout"]),
        probe_port=_within("probe_port", params["probe_port"], 1, 65535),
        reordering=_within("reordering", params["reordering"], 0, 300),
        rule_priority=_within("rule_priority", params["rule_priority"], 1, 32765),
        congestion_control=_word("congestion_control", params["congestion_control"] or ""),
        user=_word("user", params["user"]),
        group=_word("group", params["group"]),
        **{key: params[key] for key in ("device_type", "spread", "snat")},
    )
    _fits(result)
    return result


def _tunnel(where: str, item: t.Mapping[str, t.Any]) -> Tunnel:
    pairs = tuple(
        Pair(p.address(f"{where}.addresses.local", one["local"]), p.address(f"{where}.addresses.peer", one["peer"]))
        for one in item["addresses"]
    )
    for pair in pairs:
        if family(pair.peer) != pair.family:
            raise p.ParameterError(f"{where}.addresses.peer", pair.peer, f"must be of the family of {pair.local}")
    p.unique(f"{where}.addresses", (pair.family for pair in pairs))
    if "ip" not in [pair.family for pair in pairs]:
        raise p.ParameterError(f"{where}.addresses", [], "give a pair of IPv4 addresses; the probes need them")
    return Tunnel(
        number=_within(f"{where}.number", item["number"], 1, MAX_SLOTS),
        device=p.interface_name(f"{where}.device", item["device"]),
        port=_within(f"{where}.port", item["port"], 1, 65535),
        mark=_within(f"{where}.mark", item["mark"], 256, MARK_MAX),  # tables up to 255 are the system's
        weight=_within(f"{where}.weight", item.get("weight", 1), 0, MAX_SLOTS),
        rate=_rate(f"{where}.rate", item.get("rate") or 0),
        pairs=pairs,
    )


def _fits(bundle: Bundle) -> None:
    if bundle.timeout and bundle.probe_port in [tunnel.port for tunnel in bundle.tunnels]:
        raise p.ParameterError(
            "probe_port", bundle.probe_port, "a tunnel has this port; choose another one for the watch"
        )
    for net in bundle.networks:
        if family(net) not in bundle.families:
            raise p.ParameterError(
                "networks", net, "the tunnels have no IPv6 addresses; give them some, or leave it out"
            )
        own = [*bundle.addresses, *(pair.local for tunnel in bundle.tunnels for pair in tunnel.pairs)]
        for one in own:
            if ipaddress.ip_address(one) in ipaddress.ip_network(net):
                raise p.ParameterError("networks", net, f"holds {one}, an address of this end; choose another network")


def _within(parameter: str, value: int, lowest: int, highest: int) -> int:
    if not lowest <= value <= highest:
        raise p.ParameterError(parameter, value, f"give a number from {lowest} to {highest}")
    return value


def _rate(parameter: str, value: float) -> int:
    if value and not 0.1 <= value <= RATE_MAX:
        raise p.ParameterError(parameter, value, f"give Mbit/s from 0.1 to {RATE_MAX:g}, or 0 for no limit")
    return round(value * 125_000) * 8  # tc counts bytes


def _timeout(value: float) -> float:
    if value and not TIMEOUT[0] <= value <= TIMEOUT[1]:
        raise p.ParameterError(
            "timeout", value, f"give seconds from {TIMEOUT[0]:g} to {TIMEOUT[1]:g}, or 0 to watch nothing"
        )
    return float(value)


def _word(parameter: str, value: str) -> str:
    if value and not re.match(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\Z", value):
        raise p.ParameterError(parameter, value, "give a name of letters, digits, hyphens, dots and underscores")
    return value


# --- the spread -------------------------------------------------------------------------------------------------------


def slots(weights: t.Mapping[int, int]) -> list[int]:
    """Tunnels in the order in which packets are dealt to them, each as often as its weight says, and evenly."""
    if not any(weights.values()):
        raise p.ParameterError(
            "tunnels[].weight", list(weights.values()), "give one tunnel at least a weight above 0, or nothing is sent"
        )
    divisor = math.gcd(*weights.values())
    shares = {number: weight // divisor for number, weight in weights.items() if weight}
    total = sum(shares.values())
    if total > MAX_SLOTS:
        raise p.ParameterError(
            "tunnels[].weight", list(weights.values()), f"take smaller ones: their sum may be {MAX_SLOTS}"
        )
    credit = dict.fromkeys(shares, 0)
    dealt = []
    for _slot in range(total):  # smooth weighted round robin
        for number, share in shares.items():
            credit[number] += share
        best = max(credit, key=lambda number: credit[number])
        credit[best] -= total
        dealt.append(best)
    return dealt


def flow_owners(bundle: Bundle, live: t.Collection[int]) -> dict[int, list[int]]:
    """Tunnel -> its buckets of flows. Those of a tunnel that is not live go to others; all others stay."""
    weights = {str(tunnel.number): tunnel.weight for tunnel in bundle.tunnels}
    home = _buckets.owners(weights, FLOW_BUCKETS)
    now = {number: weight if int(number) in live else 0 for number, weight in weights.items()}
    return {int(number): buckets for number, buckets in _buckets.owners(now, FLOW_BUCKETS, home).items()}


def usable(bundle: Bundle, live: t.Iterable[int]) -> list[int]:
    """Tunnels of these that packets may be given to, in their order."""
    there = set(live)
    return [tunnel.number for tunnel in bundle.tunnels if tunnel.number in there and tunnel.weight]


def live_in(bundle: Bundle, listing: Listing) -> list[int]:
    """The tunnels that are in the spread as it is. All, where nobody watches; none before the watch has seen them."""
    if not bundle.timeout:
        return usable(bundle, (tunnel.number for tunnel in bundle.tunnels))
    for rule in rules_of(listing, "spread"):
        words = str(rule.get("comment", "")).split()
        if words[:1] == [LIVE]:
            ranges = [re.fullmatch(r"(\d+)(?:-(\d+))?", word) for word in words[1:]]
            live = [n for r in ranges if r for n in range(int(r[1]), int(r[2] or r[1]) + 1)]
            return usable(bundle, live)
    return []


def table(bundle: Bundle, live: t.Iterable[int]) -> Table:
    """The table, with a spread over the tunnels that are live."""
    devices = _set(f'"{tunnel.device}"' for tunnel in bundle.tunnels)
    spread = _spread(bundle, usable(bundle, live))
    to_peer = tuple(
        Rule(f"{one} daddr {_set(bundle.of_family(one))} goto spread", "to the other site")
        for one in bundle.families
        if bundle.of_family(one)
    )
    came = Rule(f"iifname {devices} accept", "came out of a tunnel")
    chains = {
        "spread": Chain("", spread),
        "forwarded": Chain("filter hook prerouting priority mangle", (came, *to_peer)),
        "local": Chain("route hook output priority mangle", (*_between(bundle), *to_peer)),
        "clamp": Chain(
            "filter hook forward priority mangle",
            (
                Rule(
                    f"oifname {devices} tcp flags syn / syn,rst tcp option maxseg size set rt mtu",
                    "segments that fit into a tunnel",
                ),
            ),
        ),
    }
    if bundle.snat != "none":
        chains["translate"] = Chain("nat hook postrouting priority srcnat", tuple(_translate(bundle, devices)))
    return Table("inet", bundle.table, chains)


def _spread(bundle: Bundle, live: list[int]) -> tuple[Rule, ...]:
    # As ranges: a comment has no more than 128 bytes.
    purpose = " ".join([LIVE, *(f"{a}-{b}" if b > a else f"{a}" for a, b in _ranges(sorted(live)))])
    if not live:  # or they would take the main route, into a tunnel that is dead
        return (Rule("reject with icmpx no-route", purpose),)
    marks = {tunnel.number: tunnel.mark for tunnel in bundle.tunnels}
    if bundle.spread == "per_packet":
        dealt = slots({tunnel.number: tunnel.weight for tunnel in bundle.tunnels if tunnel.number in live})
        owned: dict[int, list[int]] = {}
        for slot, number in enumerate(dealt):
            owned.setdefault(number, []).append(slot)
        return (Rule(f"meta mark set numgen inc mod {len(dealt)} map {_map(owned, marks)}", purpose),)
    owned = {number: [b - 1 for b in buckets] for number, buckets in flow_owners(bundle, live).items() if buckets}
    hashed = f"mod {FLOW_BUCKETS} seed {FLOW_SEED:#x} map {_map(owned, marks)}"
    ends = {"ip": "ip saddr . ip daddr", "ip6": "ip6 saddr . ip6 daddr"}
    # First by the addresses alone: what has no ports, or is a fragment, keeps that.
    return tuple(
        Rule(f"meta mark set jhash {ends[one]} . meta l4proto{ports} {hashed}", purpose)
        for one in bundle.families
        for ports in ("", " . th sport . th dport")
    )


def _between(bundle: Bundle) -> t.Iterator[Rule]:
    """What one tunnel's end sends to its other end is about that tunnel, the probes above all."""
    for one in bundle.families:
        pairs = [pair for pair in (tunnel.pair(one) for tunnel in bundle.tunnels) if pair]
        each = _set(f"{pair.local} . {pair.peer}" for pair in pairs)
        yield Rule(f"{one} saddr . {one} daddr {each} accept", "between the ends of a tunnel")


def _translate(bundle: Bundle, devices: str) -> t.Iterator[Rule]:
    for one in bundle.families:
        own = [address for address in bundle.addresses if family(address) == one]
        pairs = [(x.device, pair.local) for x in bundle.tunnels for pair in [x.pair(one)] if pair]
        known = _set([*own, *(local for _device, local in pairs)])
        if bundle.snat == "common" and own:
            to = own[0]
        elif bundle.snat == "tunnel":
            to = f"oifname map {_set(f'{chr(34)}{device}{chr(34)} : {local}' for device, local in pairs)}"
        else:
            raise p.ParameterError("snat", bundle.snat, f"give this end an address in the bundle of the family {one}")
        yield Rule(f"oifname {devices} {one} saddr != {known} snat {one} to {to}", "this end's address")


def _set(items: t.Iterable[str]) -> str:
    return f"{{ {', '.join(items)} }}"


def _map(owned: t.Mapping[int, t.Sequence[int]], marks: t.Mapping[int, int]) -> str:
    parts = []
    for number, keys in sorted(owned.items()):
        for first, last in _ranges(sorted(keys)):
            parts.append(f"{first}-{last} : {marks[number]}" if last > first else f"{first} : {marks[number]}")
    return _set(parts)


def _ranges(numbers: t.Sequence[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] + 1 == number:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
