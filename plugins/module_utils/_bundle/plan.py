# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The desired bundle + the observed devices, routes and rules -> steps. Pure.

Devices are persistent and outlive their OpenVPN processes: addresses, routes and rules stay when a process ends, so no
script has to restore them. All resources of tunnel K depend on K alone: other tunnels come and go without touching it.
"""

from __future__ import annotations

import typing as t

from .._kernel.routing import FAMILIES, MAIN, PROTOCOL, Device, MultiRoute, RoutingRule, Seen
from .._kernel.ruleset import Listing, plan_no_table, plan_table
from .._kernel.steps import Step, step
from . import spread
from .bundle import Bundle, Tunnel
from .conflicts import refuse_conflicts
from .routes import RouteKey, desired_routes, desired_rules, host_prefix


def sysctls(bundle: Bundle) -> dict[str, str]:
    """The sysctls of all devices of the bundle: key -> value."""
    return {key: value for tunnel in bundle.tunnels for key, value in _device_sysctls(bundle, tunnel).items()}


def _device_sysctls(bundle: Bundle, tunnel: Tunnel) -> dict[str, str]:
    """IPv4 forwarding is enabled per device; IPv6 forwarding is a switch of the whole host, and left to it."""
    found = {f"net/ipv4/conf/{tunnel.device}/forwarding": "1"}
    if bundle.device_type == "tap" and tunnel.pair("ip6"):
        # Neighbour solicitations need the link-local address. Duplicate address detection would block it for a second
        # after each start of the process, and most packets into the tunnel would be lost.
        found[f"net/ipv6/conf/{tunnel.device}/accept_dad"] = "0"
    return found


def plan(bundle: Bundle, seen: Seen, current: t.Mapping[str, str], listing: Listing) -> list[Step]:
    """The steps to the desired state; C(current): values of the sysctls. Raises ParameterError on conflicts."""
    refuse_conflicts(bundle, seen)
    routes = desired_routes(bundle)
    obsolete = _obsolete_devices(bundle, seen)
    lines = plan_table(spread.table(bundle, spread.live_tunnels(bundle, listing)), listing)
    steps = [one for tunnel in bundle.tunnels for one in _device(bundle, tunnel, seen, current)]
    steps += _own_addresses(bundle, seen)
    losing = _devices_losing_routes(bundle, seen)
    steps += [
        _route(bundle, key, route, "replace" if key in seen.routes else "add")
        for key, route in routes.items()
        if seen.routes.get(key) != route or any(device in losing for _via, device, _weight in route.legs)
    ]
    steps += [_rule(bundle, "add", rule) for rule in desired_rules(bundle) if rule not in seen.rules]
    if lines:
        steps.append(step("nft", bundle.netns, lines=lines))
    # An obsolete tunnel leaves the spread and the routes before its device is removed.
    ours = obsolete | {tunnel.device for tunnel in bundle.tunnels}
    steps += [_remove_route(bundle, key) for key in _routes_over(seen, ours) if key not in routes]
    steps += [_rule(bundle, "del", rule) for rule in _obsolete_rules(bundle, seen, ours)]
    steps += [_ip(bundle, "link", "del", "dev", name) for name in sorted(obsolete)]
    return steps + _remove_addresses(bundle, seen, set(bundle.former_addresses) - set(bundle.addresses))


def plan_absent(bundle: Bundle, seen: Seen, listing: Listing) -> list[Step]:
    """The steps that remove the bundle."""
    devices = {name for name, device in seen.devices.items() if device.alias == bundle.alias}
    lines = plan_no_table("inet", bundle.table, listing)
    desired = desired_rules(bundle)
    steps = [_remove_route(bundle, key) for key in _routes_over(seen, devices)]
    steps += [_rule(bundle, "del", rule) for rule in sorted(seen.rules, key=str) if rule in desired]
    steps += [_rule(bundle, "del", rule) for rule in _obsolete_rules(bundle, seen, devices)]
    steps += [_ip(bundle, "link", "del", "dev", name) for name in sorted(devices)]
    if lines:
        steps.append(step("nft", bundle.netns, lines=lines))
    return steps + _remove_addresses(bundle, seen, (*bundle.addresses, *bundle.former_addresses))


def missing_devices(bundle: Bundle, seen: Seen) -> list[str]:
    """Devices that do not exist yet or must be recreated. A running process of such a device is not attached to it."""
    devices = {tunnel.device: seen.devices.get(tunnel.device) for tunnel in bundle.tunnels}
    return [name for name, device in devices.items() if not device or not _usable(bundle, device)]


def _device(bundle: Bundle, tunnel: Tunnel, seen: Seen, current: t.Mapping[str, str]) -> t.Iterator[Step]:
    name = tunnel.device
    device = seen.devices.get(name)
    if device and not _usable(bundle, device):
        yield _ip(bundle, "link", "del", "dev", name)
        device = None
    if device is None:
        owner = ("user", bundle.user, "group", bundle.group)
        yield _ip(bundle, "tuntap", "add", "dev", name, "mode", bundle.device_type, *owner)
        yield _ip(bundle, "link", "set", "dev", name, "alias", bundle.alias)
        device = Device(name, bundle.device_type)
    if (device.mtu, device.queue) != (bundle.mtu, bundle.queue):
        yield _ip(bundle, "link", "set", "dev", name, "mtu", str(bundle.mtu), "txqueuelen", str(bundle.queue))
    for key, value in _device_sysctls(bundle, tunnel).items():
        if current.get(key) != value or not device.persist:
            yield step("sysctl", bundle.netns, key=key, value=value)
    if not device.up:
        yield _ip(bundle, "link", "set", "dev", name, "up")
    if device.rate != tunnel.rate:
        yield _rate_limit(bundle, tunnel)
    for address, peer in sorted(device.addresses - _addresses(tunnel), key=str):
        yield _ip(bundle, "addr", "del", host_prefix(address), *(["peer", peer] if peer else []), "dev", name)
    for pair in tunnel.pairs:
        if (pair.local, None) not in device.addresses:
            yield _add_address(bundle, pair.local, name)


def _addresses(tunnel: Tunnel) -> set[tuple[str, str | None]]:
    return {(pair.local, None) for pair in tunnel.pairs}


def _devices_losing_routes(bundle: Bundle, seen: Seen) -> set[str]:
    """Devices that are recreated, set up or lose an address: the kernel removes routes along with it."""
    found = set()
    for tunnel in bundle.tunnels:
        device = seen.devices.get(tunnel.device)
        if device and (not _usable(bundle, device) or not device.up or device.addresses - _addresses(tunnel)):
            found.add(tunnel.device)
    return found


def _rate_limit(bundle: Bundle, tunnel: Tunnel) -> Step:
    """The queueing discipline that limits the rate, or its removal."""
    if not tunnel.rate:
        return step("tc", bundle.netns, words=("qdisc", "del", "dev", tunnel.device, "root"))
    bytes_per_second = tunnel.rate // 8
    burst = max(2 * bundle.mtu, bytes_per_second // 200)  # 5 ms
    queue = max(64000, bytes_per_second // 10)  # 100 ms: packets that wait longer arrive too late to be of use
    words = ("qdisc", "replace", "dev", tunnel.device, "root", "tbf", "rate", f"{tunnel.rate}bit")
    return step("tc", bundle.netns, words=(*words, "burst", f"{burst}b", "limit", f"{queue}b"))


def _usable(bundle: Bundle, device: Device) -> bool:
    desired = (bundle.device_type, True, bundle.user, bundle.group)
    return (device.device_type, device.persist, device.user, device.group) == desired


def _own_addresses(bundle: Bundle, seen: Seen) -> list[Step]:
    held = _on_loopback(seen)
    return [_add_address(bundle, one, "lo") for one in bundle.addresses if one not in held]


def _add_address(bundle: Bundle, address: str, device: str) -> Step:
    """Without nodad, an IPv6 address cannot be the source of a route until duplicate address detection ends."""
    return _ip(bundle, "addr", "add", host_prefix(address), "dev", device, *(["nodad"] if ":" in address else []))


def _remove_addresses(bundle: Bundle, seen: Seen, addresses: t.Iterable[str]) -> list[Step]:
    held = _on_loopback(seen)
    return [_ip(bundle, "addr", "del", host_prefix(one), "dev", "lo") for one in addresses if one in held]


def _on_loopback(seen: Seen) -> set[str]:
    return {address for address, _peer in seen.devices["lo"].addresses} if "lo" in seen.devices else set()


def _obsolete_devices(bundle: Bundle, seen: Seen) -> set[str]:
    desired = {tunnel.device for tunnel in bundle.tunnels}
    return {name for name, device in seen.devices.items() if device.alias == bundle.alias and name not in desired}


def _routes_over(seen: Seen, devices: t.Collection[str]) -> list[RouteKey]:
    """Routes with at least one of these devices."""
    return [
        key
        for key, route in sorted(seen.routes.items())
        if any(device in devices for _via, device, _weight in route.legs)
    ]


def _obsolete_rules(bundle: Bundle, seen: Seen, devices: t.Collection[str]) -> list[RoutingRule]:
    """Rules whose table has no routes over other devices: they belong to removed tunnels of this bundle."""
    desired = desired_rules(bundle)
    used: dict[tuple[str, int], set[str]] = {}
    for (one, number, _dst), route in seen.routes.items():
        used.setdefault((one, number), set()).update(device for _via, device, _weight in route.legs)
    return [
        rule
        for rule in sorted(seen.rules, key=str)
        if rule not in desired and used.get((rule.family, rule.table), set()) <= set(devices)
    ]


def _route(bundle: Bundle, key: RouteKey, route: MultiRoute, verb: str) -> Step:
    one, number, dst = key
    legs = sorted(route.legs, key=lambda leg: leg[1])
    words = [FAMILIES[one], "route", verb, dst, *([] if number == MAIN else ["table", str(number)])]
    words += ["proto", PROTOCOL, *(["src", route.src] if route.src else [])]
    words += ["reordering", str(route.reordering)] if route.reordering else []
    words += ["congctl", route.congestion_control] if route.congestion_control else []
    # onlink: there is no IPv4 route to the peer.
    hops = [(*(("via", via) if via else ()), "dev", dev, *(("onlink",) if via else ())) for via, dev, _weight in legs]
    if len(hops) == 1:
        return _ip(bundle, *words, *hops[0])
    return _ip(bundle, *words, *(word for hop in hops for word in ("nexthop", *hop)))


def _remove_route(bundle: Bundle, key: RouteKey) -> Step:
    one, number, dst = key
    return _ip(bundle, FAMILIES[one], "route", "del", dst, "table", str(number), "proto", PROTOCOL)


def _rule(bundle: Bundle, verb: str, rule: RoutingRule) -> Step:
    words = [FAMILIES[rule.family], "rule", verb, "pref", str(rule.priority), "fwmark", str(rule.mark)]
    return _ip(bundle, *words, "lookup", str(rule.table), "protocol", PROTOCOL)


def _ip(bundle: Bundle, *words: str) -> Step:
    return step("ip", bundle.netns, words=words)
