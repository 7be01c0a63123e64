# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bundle that is wanted + what was seen of it -> steps. Pure.

Devices outlive their OpenVPN processes: addresses, routes and rules stay when one ends, and nothing has to be brought
back by a script when it returns. Whatever belongs to tunnel K depends on K alone, so others come and go without it.
"""

from __future__ import annotations

import typing as t

from .._kernel.routing import FAMILIES, MAIN, PROTOCOL, Device, MultiRoute, RoutingRule, Seen
from .._kernel.ruleset import Listing, plan_no_table, plan_table
from .._kernel.steps import Step, step
from .._params import ParameterError
from . import bundle as _bundle
from . import spread
from .bundle import Bundle, Tunnel

ANYWHERE = {"ip": "0.0.0.0/0", "ip6": "::/0"}
RouteKey = tuple[str, int, str]


def sysctls(bundle: Bundle) -> dict[str, str]:
    """Of the bundle's own devices."""
    return {key: value for tunnel in bundle.tunnels for key, value in _of_device(bundle, tunnel).items()}


def _of_device(bundle: Bundle, tunnel: Tunnel) -> dict[str, str]:
    """Sysctls. IPv6 has one for the whole host only by which what comes out of a tunnel may go on."""
    found = {f"net/ipv4/conf/{tunnel.device}/forwarding": "1"}
    if bundle.device_type == "tap" and tunnel.pair("ip6"):
        # Neighbours are asked from the link-local address. For a second after each start of the process it would be
        # looked for duplicates of, and most of what is sent into the tunnel then would be lost.
        found[f"net/ipv6/conf/{tunnel.device}/accept_dad"] = "0"
    return found


def plan(bundle: Bundle, seen: Seen, before: t.Mapping[str, str], listing: Listing) -> list[Step]:
    """Everything there is to be. C(before): the sysctls as they are."""
    refuse_others(bundle, seen)
    routes = wanted_routes(bundle)
    stale = _stale_devices(bundle, seen)
    lines = plan_table(spread.table(bundle, spread.live_in(bundle, listing)), listing)
    steps = [one for tunnel in bundle.tunnels for one in _device(bundle, tunnel, seen, before)]
    steps += _own_addresses(bundle, seen)
    lost = _losing_routes(bundle, seen)
    steps += [
        _route(bundle, key, route, "replace" if key in seen.routes else "add")
        for key, route in routes.items()
        if seen.routes.get(key) != route or any(device in lost for _via, device, _weight in route.legs)
    ]
    steps += [_rule(bundle, "add", rule) for rule in wanted_rules(bundle) if rule not in seen.rules]
    if lines:
        steps.append(step("nft", bundle.netns, lines=lines))
    # A tunnel leaves the spread and the routes before its device goes.
    ours = stale | {tunnel.device for tunnel in bundle.tunnels}
    steps += [_no_route(bundle, key) for key in _over(seen, ours) if key not in routes]
    steps += [_rule(bundle, "del", rule) for rule in _dead_rules(bundle, seen, ours)]
    steps += [_ip(bundle, "link", "del", "dev", name) for name in sorted(stale)]
    return steps + _no_addresses(bundle, seen, set(bundle.former_addresses) - set(bundle.addresses))


def plan_absent(bundle: Bundle, seen: Seen, listing: Listing) -> list[Step]:
    """The reverse."""
    devices = {name for name, device in seen.devices.items() if device.alias == bundle.alias}
    lines = plan_no_table("inet", bundle.table, listing)
    steps = [_no_route(bundle, key) for key in _over(seen, devices)]
    steps += [_rule(bundle, "del", rule) for rule in sorted(seen.rules, key=str) if rule in wanted_rules(bundle)]
    steps += [
        _rule(bundle, "del", rule) for rule in _dead_rules(bundle, seen, devices) if rule not in wanted_rules(bundle)
    ]
    steps += [_ip(bundle, "link", "del", "dev", name) for name in sorted(devices)]
    if lines:
        steps.append(step("nft", bundle.netns, lines=lines))
    return steps + _no_addresses(bundle, seen, (*bundle.addresses, *bundle.former_addresses))


def missing_devices(bundle: Bundle, seen: Seen) -> list[str]:
    """Devices that are to be made. A process that had an earlier one of the name is attached to nothing."""
    devices = {tunnel.device: seen.devices.get(tunnel.device) for tunnel in bundle.tunnels}
    return [name for name, there in devices.items() if not there or not _usable(bundle, there)]


def refuse_others(bundle: Bundle, seen: Seen) -> None:
    """Refuse names, numbers and routes that somebody else has."""
    for i, tunnel in enumerate(bundle.tunnels):
        there = seen.devices.get(tunnel.device)
        if there and there.alias != bundle.alias:
            what = "another bundle has it" if there.alias else "an interface of this name is there already"
            raise ParameterError(f"tunnels[{i}].device", tunnel.device, f"{what}; choose another name for the bundle")
    ours = {name for name, device in seen.devices.items() if device.alias == bundle.alias}
    marks = {tunnel.mark: i for i, tunnel in enumerate(bundle.tunnels)}
    for (_family, number, _dst), route in seen.routes.items():
        if number in marks and not {device for _via, device, _weight in route.legs} <= ours:
            raise ParameterError(
                f"tunnels[{marks[number]}].mark", number, "another bundle has this number; choose another first mark"
            )
    for parameter, network in destinations(bundle).items():
        there_is = seen.routes.get((_bundle.family(network), MAIN, network), MultiRoute(frozenset()))
        if network in seen.others or not {device for _via, device, _weight in there_is.legs} <= ours:
            raise ParameterError(
                parameter,
                network,
                "the host has a route to it, not this bundle's; remove that, or leave this out",
            )


def destinations(bundle: Bundle) -> dict[str, str]:
    """Parameter -> what the bundle has a route to in the main table, where nobody else may have one."""
    peers = {
        f"tunnels[{i}].addresses.peer": network
        for i, tunnel in enumerate(bundle.tunnels)
        for _family, _table, network in _way_to_peer(tunnel, "ip6")
    }
    return {**{f"networks[{i}]": network for i, network in enumerate(bundle.networks)}, **peers}


def wanted_rules(bundle: Bundle) -> list[RoutingRule]:
    """Marked packets look their tunnel's table up."""
    return [
        RoutingRule(one, bundle.rule_priority, tunnel.mark, tunnel.mark)
        for tunnel in bundle.tunnels
        for one in bundle.families
        if tunnel.pair(one)
    ]


def wanted_routes(bundle: Bundle) -> dict[RouteKey, MultiRoute]:
    """A table for each tunnel. In the main one, a route over all of them: it is what a strict rp_filter asks for, and
    where a connection of this host gets its source address, reordering and congestion control from."""
    routes: dict[RouteKey, MultiRoute] = {}
    for one in bundle.families:
        legs = [(pair.peer, tunnel.device, 1) for tunnel in bundle.tunnels for pair in [tunnel.pair(one)] if pair]
        for tunnel in bundle.tunnels:
            own = [leg for leg in legs if leg[1] == tunnel.device]
            if own:  # a tunnel that is about to go may be older than IPv6
                routes.update(_way_to_peer(tunnel, one))
                routes[one, tunnel.mark, ANYWHERE[one]] = MultiRoute(frozenset(own))
        source = next((address for address in bundle.addresses if _bundle.family(address) == one), None)
        for network in bundle.of_family(one):
            routes[one, MAIN, network] = MultiRoute(
                frozenset(legs), source, bundle.reordering, bundle.congestion_control
            )
    return routes


def _way_to_peer(tunnel: Tunnel, one: str) -> dict[RouteKey, MultiRoute]:
    """IPv6 takes no gateway of which another route says that it is elsewhere, and that over all tunnels says so.

    With the peer's address beside its own the kernel makes this route itself, but a moment later. With IPv4, a strict
    rp_filter would refuse the peer's packets from all other tunnels. IPv6 has no such filter.
    """
    peers = [pair.peer for pair in tunnel.pairs if pair.family == one == "ip6"]
    return {(one, MAIN, _host(peer)): MultiRoute(frozenset({("", tunnel.device, 1)})) for peer in peers}


def _device(bundle: Bundle, tunnel: Tunnel, seen: Seen, before: t.Mapping[str, str]) -> t.Iterator[Step]:
    name = tunnel.device
    there = seen.devices.get(name)
    if there and not _usable(bundle, there):
        yield _ip(bundle, "link", "del", "dev", name)
        there = None
    if there is None:
        owner = ("user", bundle.user, "group", bundle.group)
        yield _ip(bundle, "tuntap", "add", "dev", name, "mode", bundle.device_type, *owner)
        yield _ip(bundle, "link", "set", "dev", name, "alias", bundle.alias)
        there = Device(name, bundle.device_type)
    if (there.mtu, there.queue) != (bundle.mtu, bundle.queue):
        yield _ip(bundle, "link", "set", "dev", name, "mtu", str(bundle.mtu), "txqueuelen", str(bundle.queue))
    for key, value in _of_device(bundle, tunnel).items():
        if before.get(key) != value or not there.persist:
            yield step("sysctl", bundle.netns, key=key, value=value)
    if not there.up:
        yield _ip(bundle, "link", "set", "dev", name, "up")
    if there.rate != tunnel.rate:
        yield _limit(bundle, tunnel)
    for address, peer in sorted(there.addresses - _addresses(tunnel), key=str):
        yield _ip(bundle, "addr", "del", _host(address), *(["peer", peer] if peer else []), "dev", name)
    for pair in tunnel.pairs:
        if (pair.local, None) not in there.addresses:
            yield _add_address(bundle, pair.local, name)


def _addresses(tunnel: Tunnel) -> set[tuple[str, str | None]]:
    return {(pair.local, None) for pair in tunnel.pairs}


def _losing_routes(bundle: Bundle, seen: Seen) -> set[str]:
    """Devices that are made anew or lose an address: the kernel takes routes along with these."""
    found = set()
    for tunnel in bundle.tunnels:
        there = seen.devices.get(tunnel.device)
        if there and (not _usable(bundle, there) or not there.up or there.addresses - _addresses(tunnel)):
            found.add(tunnel.device)
    return found


def _limit(bundle: Bundle, tunnel: Tunnel) -> Step:
    """The upper rate. Bursts of 5 ms, and a queue of 100 ms: longer than that, packets are too late anyway."""
    if not tunnel.rate:
        return step("tc", bundle.netns, words=("qdisc", "del", "dev", tunnel.device, "root"))
    burst, queue = (max(least, tunnel.rate // 8 // part) for least, part in ((2 * bundle.mtu, 200), (64000, 10)))
    words = ("qdisc", "replace", "dev", tunnel.device, "root", "tbf", "rate", f"{tunnel.rate}bit")
    return step("tc", bundle.netns, words=(*words, "burst", f"{burst}b", "limit", f"{queue}b"))


def _usable(bundle: Bundle, there: Device) -> bool:
    wanted = (bundle.device_type, True, bundle.user, bundle.group)
    return (there.device_type, there.persist, there.user, there.group) == wanted


def _own_addresses(bundle: Bundle, seen: Seen) -> list[Step]:
    held = _on_loopback(seen)
    return [_add_address(bundle, one, "lo") for one in bundle.addresses if one not in held]


def _add_address(bundle: Bundle, address: str, device: str) -> Step:
    """One of IPv6 is no source for a route before duplicates were looked for, which has its own time."""
    return _ip(bundle, "addr", "add", _host(address), "dev", device, *(["nodad"] if ":" in address else []))


def _no_addresses(bundle: Bundle, seen: Seen, addresses: t.Iterable[str]) -> list[Step]:
    held = _on_loopback(seen)
    return [_ip(bundle, "addr", "del", _host(one), "dev", "lo") for one in addresses if one in held]


def _on_loopback(seen: Seen) -> set[str]:
    return {address for address, _peer in seen.devices["lo"].addresses} if "lo" in seen.devices else set()


def _stale_devices(bundle: Bundle, seen: Seen) -> set[str]:
    wanted = {tunnel.device for tunnel in bundle.tunnels}
    return {name for name, device in seen.devices.items() if device.alias == bundle.alias and name not in wanted}


def _over(seen: Seen, devices: t.Collection[str]) -> list[RouteKey]:
    """Routes over such devices."""
    return [
        key
        for key, route in sorted(seen.routes.items())
        if any(device in devices for _via, device, _weight in route.legs)
    ]


def _dead_rules(bundle: Bundle, seen: Seen, devices: t.Collection[str]) -> list[RoutingRule]:
    """Rules whose table has no routes but over such devices: nobody's but those of a tunnel that is gone, or goes."""
    wanted = wanted_rules(bundle)
    used: dict[tuple[str, int], set[str]] = {}
    for (one, number, _dst), route in seen.routes.items():
        used.setdefault((one, number), set()).update(device for _via, device, _weight in route.legs)
    return [
        rule
        for rule in sorted(seen.rules, key=str)
        if rule not in wanted and used.get((rule.family, rule.table), set()) <= set(devices)
    ]


def _route(bundle: Bundle, key: RouteKey, route: MultiRoute, verb: str) -> Step:
    one, number, dst = key
    legs = sorted(route.legs, key=lambda leg: leg[1])
    words = [FAMILIES[one], "route", verb, dst, *([] if number == MAIN else ["table", str(number)])]
    words += ["proto", PROTOCOL, *(["src", route.src] if route.src else [])]
    words += ["reordering", str(route.reordering)] if route.reordering else []
    words += ["congctl", route.congestion_control] if route.congestion_control else []
    # Of IPv4 there is no route to the peer.
    hops = [(*(("via", via) if via else ()), "dev", dev, *(("onlink",) if via else ())) for via, dev, _weight in legs]
    if len(hops) == 1:
        return _ip(bundle, *words, *hops[0])
    return _ip(bundle, *words, *(word for hop in hops for word in ("nexthop", *hop)))


def _no_route(bundle: Bundle, key: RouteKey) -> Step:
    one, number, dst = key
    return _ip(bundle, FAMILIES[one], "route", "del", dst, "table", str(number), "proto", PROTOCOL)


def _rule(bundle: Bundle, verb: str, rule: RoutingRule) -> Step:
    words = [FAMILIES[rule.family], "rule", verb, "pref", str(rule.priority), "fwmark", str(rule.mark)]
    return _ip(bundle, *words, "lookup", str(rule.table), "protocol", PROTOCOL)


def _ip(bundle: Bundle, *words: str) -> Step:
    return step("ip", bundle.netns, words=words)


def _host(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"
