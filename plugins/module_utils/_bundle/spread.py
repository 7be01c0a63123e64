# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The nftables table of a bundle: it spreads packets over the live tunnels. Pure.

The chain C(spread) is also the record of which tunnels are live: the comment of its rules lists them. A plan reads the
list from the kernel and keeps it, so that only the watch ever takes a tunnel out of the spread or puts it back.
"""

from __future__ import annotations

import re
import typing as t

from .. import _params as p
from .._kernel.ruleset import Chain, Listing, Rule, Table, rules_of
from .bundle import Bundle, family
from .weights import FLOW_BUCKETS, flow_buckets, packet_slots

CHAIN = "spread"
LIVE = "live:"  # the first word of the comment that lists the live tunnels
FLOW_SEED = 0x1


def live_tunnels(bundle: Bundle, listing: Listing) -> list[int]:
    """The tunnels in the spread: all of them without a watch; none in a table that the watch has not filled yet."""
    if not bundle.timeout:
        return _usable(bundle, (tunnel.number for tunnel in bundle.tunnels))
    for rule in rules_of(listing, CHAIN):
        words = str(rule.get("comment", "")).split()
        if words[:1] == [LIVE]:
            ranges = [re.fullmatch(r"(\d+)(?:-(\d+))?", word) for word in words[1:]]
            return _usable(bundle, [n for r in ranges if r for n in range(int(r[1]), int(r[2] or r[1]) + 1)])
    return []


def table(bundle: Bundle, live: t.Iterable[int]) -> Table:
    """The table that spreads packets over these tunnels. Raises ParameterError."""
    devices = _set(f'"{tunnel.device}"' for tunnel in bundle.tunnels)
    to_other_site = tuple(
        Rule(f"{one} daddr {_set(bundle.of_family(one))} goto {CHAIN}", "to the other site")
        for one in bundle.families
        if bundle.of_family(one)
    )
    from_tunnel = Rule(f"iifname {devices} accept", "came out of a tunnel")
    clamp = Rule(
        f"oifname {devices} tcp flags syn / syn,rst tcp option maxseg size set rt mtu",
        "segments that fit into a tunnel",
    )
    chains = {
        CHAIN: Chain("", _spread_rules(bundle, _usable(bundle, live))),
        "forwarded": Chain("filter hook prerouting priority mangle", (from_tunnel, *to_other_site)),
        "local": Chain("route hook output priority mangle", (*_tunnel_own_rules(bundle), *to_other_site)),
        "clamp": Chain("filter hook forward priority mangle", (clamp,)),
    }
    if bundle.snat != "none":
        chains["translate"] = Chain("nat hook postrouting priority srcnat", tuple(_snat_rules(bundle, devices)))
    return Table("inet", bundle.table, chains)


def _usable(bundle: Bundle, live: t.Iterable[int]) -> list[int]:
    """Those of the tunnels that exist and have a weight above 0, in the order of the bundle."""
    numbers = set(live)
    return [tunnel.number for tunnel in bundle.tunnels if tunnel.number in numbers and tunnel.weight]


def _spread_rules(bundle: Bundle, live: list[int]) -> tuple[Rule, ...]:
    # Ranges keep the comment below the 128 bytes that nftables allows.
    comment = " ".join([LIVE, *(f"{a}-{b}" if b > a else f"{a}" for a, b in _ranges(sorted(live)))])
    if not live:  # without a mark, packets would take the route in the main table, into a dead tunnel
        return (Rule("reject with icmpx no-route", comment),)
    weights = {tunnel.number: tunnel.weight for tunnel in bundle.tunnels}
    marks = {tunnel.number: tunnel.mark for tunnel in bundle.tunnels}
    if bundle.spread == "per_packet":
        slots = packet_slots({number: weights[number] for number in weights if number in live})
        by_tunnel: dict[int, list[int]] = {}
        for slot, number in enumerate(slots):
            by_tunnel.setdefault(number, []).append(slot)
        return (Rule(f"meta mark set numgen inc mod {len(slots)} map {_map(by_tunnel, marks)}", comment),)
    by_tunnel = {n: [bucket - 1 for bucket in owned] for n, owned in flow_buckets(weights, live).items() if owned}
    hashed = f"mod {FLOW_BUCKETS} seed {FLOW_SEED:#x} map {_map(by_tunnel, marks)}"
    ends = {"ip": "ip saddr . ip daddr", "ip6": "ip6 saddr . ip6 daddr"}
    # The rule without ports comes first: for fragments and protocols without ports, its mark remains.
    return tuple(
        Rule(f"meta mark set jhash {ends[one]} . meta l4proto{ports} {hashed}", comment)
        for one in bundle.families
        for ports in ("", " . th sport . th dport")
    )


def _tunnel_own_rules(bundle: Bundle) -> t.Iterator[Rule]:
    """Packets between the two addresses of a tunnel, such as probes, stay in this tunnel."""
    for one in bundle.families:
        pairs = [pair for pair in (tunnel.pair(one) for tunnel in bundle.tunnels) if pair]
        each = _set(f"{pair.local} . {pair.peer}" for pair in pairs)
        yield Rule(f"{one} saddr . {one} daddr {each} accept", "between the ends of a tunnel")


def _snat_rules(bundle: Bundle, devices: str) -> t.Iterator[Rule]:
    for one in bundle.families:
        own = [address for address in bundle.addresses if family(address) == one]
        pairs = [(x.device, pair.local) for x in bundle.tunnels for pair in [x.pair(one)] if pair]
        untranslated = _set([*own, *(local for _device, local in pairs)])
        if bundle.snat == "common" and own:
            to = own[0]
        elif bundle.snat == "tunnel":
            to = f"oifname map {_set(f'{chr(34)}{device}{chr(34)} : {local}' for device, local in pairs)}"
        else:
            raise p.ParameterError("snat", bundle.snat, f"add an address of the family {one} to 'addresses'")
        yield Rule(f"oifname {devices} {one} saddr != {untranslated} snat {one} to {to}", "this end's address")


def _set(items: t.Iterable[str]) -> str:
    return f"{{ {', '.join(items)} }}"


def _map(by_tunnel: t.Mapping[int, t.Sequence[int]], marks: t.Mapping[int, int]) -> str:
    parts = []
    for number, keys in sorted(by_tunnel.items()):
        for first, last in _ranges(sorted(keys)):
            parts.append(f"{first}-{last} : {marks[number]}" if last > first else f"{first} : {marks[number]}")
    return _set(parts)


def _ranges(numbers: t.Sequence[int]) -> list[tuple[int, int]]:
    """Sorted numbers -> (first, last) of each run without gaps."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] + 1 == number:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
