# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The nftables table that spreads packets over the live tunnels of a bundle. Pure."""

from __future__ import annotations

import re
import typing as t

from .. import _params as p
from .._cluster import buckets as _buckets
from .._kernel.ruleset import Chain, Listing, Rule, Table, rules_of
from .bundle import Bundle, family, slots

FLOW_BUCKETS = 256
FLOW_SEED = 0x1
LIVE = "live:"  # what the comment of the spreading rule begins with


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
