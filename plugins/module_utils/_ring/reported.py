# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the hosts of a ring report, checked before it reaches files, rules and commands of other hosts. Pure.

A host may be compromised. Its facts, its stored ring and, if Ansible injects facts as variables, any variable of it can
have any value and any type. Errors name the host.
"""

from __future__ import annotations

import ipaddress
import typing as t

from .. import _params as p
from .._cluster import hashing, lan
from .._state import files, schema

Data = dict[str, t.Any]

MAX_WEIGHT = 1_000_000
MAX_GENERATION = 1_000_000  # a run adds one at most


def _whole(lowest: int, highest: int) -> tuple[t.Callable[[t.Any], bool], str]:
    def fits(value: t.Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest

    return fits, f"a whole number from {lowest} to {highest}"


def _is_text(value: t.Any) -> bool:
    return isinstance(value, str) and len(value) <= schema.MAX_TEXT and value.isprintable()


def _is_number(value: t.Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= schema.MAX_NUMBER


_TEXT = (_is_text, "a text without control characters")
_BOOL = (lambda value: isinstance(value, bool), "true or false")
_COUNT = _whole(-schema.MAX_NUMBER, schema.MAX_NUMBER)  # its range is checked with the values of all hosts
_CHECK = (
    lambda value: (
        isinstance(value, t.Mapping)
        and isinstance(value.get("command"), (str, list, tuple))
        and all(_is_number(value.get(key)) for key in ("interval", "timeout", "fall", "rise"))
    ),
    "a dictionary with command, interval, timeout, fall and rise",
)
_OBJECT = (lambda value: isinstance(value, t.Mapping), "a dictionary")
_OBJECTS = (
    lambda value: isinstance(value, (list, tuple)) and all(isinstance(one, t.Mapping) for one in value),
    "a list of dictionaries",
)
_BUCKETS = (
    lambda value: value is None or (isinstance(value, (list, tuple)) and all(map(_COUNT[0], value))),
    "a list of whole numbers",
)

# Setting -> whether a value is of its type, and the type in words.
TYPES: t.Mapping[str, tuple[t.Callable[[t.Any], bool], str]] = {
    **dict.fromkeys(("name", "address", "ipv6_address", "clustermac", "hashmode", "hash_as"), _TEXT),
    **dict.fromkeys(("vrrp_interface", "vrrp_address", "vrrp_mac", "vrrp_group"), _TEXT),
    **dict.fromkeys(("failover", "failback", "unicast", "leaving"), _BOOL),
    **dict.fromkeys(("hash_init", "total_nodes", "slots", "first_vrid", "members", "members_max"), _COUNT),
    "weight": _whole(-1, MAX_WEIGHT),
    "number": _whole(0, 65536),
    "advert_interval": (_is_number, "a number of seconds"),
    "services": _OBJECTS,
    "local_nodes": _BUCKETS,
    "check": _CHECK,
    "facts": _OBJECT,
}


def settings(host: str, mine: t.Any) -> Data:
    """A host's settings with the types that the ring expects; {} of an unreachable host. Raises ParameterError."""
    if not isinstance(mine, t.Mapping):
        raise p.ParameterError("clusterip_cluster_settings", _shown(mine), f"{host} reports it; it is not a dictionary")
    if not mine:
        return {}
    for name, (fits, kind) in TYPES.items():
        if name not in mine:
            raise p.ParameterError(name, None, f"{host} reports none; run the role clusterip_cluster on it")
        if not fits(mine[name]):
            raise p.ParameterError(name, _shown(mine[name]), f"{host} reports it, but it is not {kind}")
    _check_network(host, mine)
    _check_facts(host, mine["facts"])
    return dict(mine)


def _check_network(host: str, mine: t.Mapping[str, t.Any]) -> None:
    """The interface and address that VRRP uses: they are written into rules and configurations of all hosts."""
    remedy = f"{host} reports it; look at the host's interfaces, since other hosts would use this value in their rules"
    if mine["vrrp_interface"]:
        p.interface_name(f"{host}: vrrp_interface", mine["vrrp_interface"])
    try:
        p.mac("vrrp_mac", mine["vrrp_mac"] or None)
    except ValueError:
        raise p.ParameterError(
            "vrrp_mac", _shown(mine["vrrp_mac"]), f"no MAC address of an interface; {remedy}"
        ) from None
    if mine["vrrp_address"]:
        try:
            address = ipaddress.IPv4Address(mine["vrrp_address"])
        except ValueError:
            address = ipaddress.IPv4Address(0)
        if address.is_unspecified or address.is_multicast or address.is_loopback or address.is_reserved:
            raise p.ParameterError("vrrp_address", _shown(mine["vrrp_address"]), f"no usable IPv4 address; {remedy}")


def _check_facts(host: str, facts: t.Mapping[str, t.Any]) -> None:
    p.not_overridden(host, facts)
    cores = facts.get("processor_vcpus")
    if cores is not None and not _whole(0, 65536)[0](cores):
        raise p.ParameterError("processor_vcpus", _shown(cores), f"{host} reports it; it is no number of processors")
    networks(host, facts)


def networks(host: str, facts: t.Mapping[str, t.Any]) -> list[lan.Interface]:
    """All addresses in a host's facts. Raises ParameterError."""
    try:
        return [own for owns in (lan.host_networks(facts, ()) or {}).values() for own in owns]
    except (ValueError, LookupError, TypeError, AttributeError) as exc:
        raise p.ParameterError(
            "facts",
            _shown(facts.get("interfaces")),
            f"{host} reports addresses of interfaces that cannot be read: {exc}",
        ) from exc


def stored(host: str, previous: t.Any) -> Data:
    """The ring that a host has stored; {} for none. Raises ParameterError."""
    if not isinstance(previous, t.Mapping):
        raise p.ParameterError("previous", _shown(previous), f"{host} reports it as its stored ring; it is not one")
    if not previous:
        return {}
    # Each run derives the settings of keepalived from the ring.
    document = {name: value for name, value in previous.items() if name != "vrrp"}
    try:
        ring = files.ring_of(document)
    except schema.ShapeError as exc:
        raise p.ParameterError("ring.json", host, f"the ring that this host has stored is damaged: {exc}") from exc
    if ring.generation > MAX_GENERATION:
        raise p.ParameterError(
            "ring.json",
            ring.generation,
            f"{host} has stored a generation above {MAX_GENERATION}, which no number of runs explains; remove its file,"
            " and find out who has changed it",
        )
    result: Data = schema.plain(ring)
    return result


def _texts(value: t.Any) -> bool:
    return isinstance(value, t.Mapping) and all(_is_text(one) for pair in value.items() for one in pair)


# Finding of the audit -> whether it has the type that the audit expects.
FINDINGS: t.Mapping[str, t.Callable[[t.Any], bool]] = {
    "arp": lambda value: value is None or (isinstance(value, (list, tuple)) and all(map(_is_text, value))),
    "sysctls": _texts,
    "vrrp": lambda value: value is None or isinstance(value, str),
    "group": lambda value: value is None or _is_text(value),
    "snooping": lambda value: isinstance(value, t.Mapping) and all(map(_is_text, value)),
    "told": lambda value: (
        isinstance(value, t.Mapping) and all(_is_text(value.get(key)) for key in ("address", "clustermac"))
    ),
}


def findings(host: str, mine: t.Any) -> t.Mapping[str, t.Any]:
    """What the audit has found on a host, with the types that it expects. Raises ParameterError."""
    for name in ("cluster", "cluster_ipv6"):
        one = mine.get(name) if isinstance(mine, t.Mapping) else None
        if not isinstance(one, t.Mapping) or (one and not _is_cluster(one)):
            raise p.ParameterError(
                name, _shown(one), f"{host} reports it; it is not a cluster as clusterip_info returns it"
            )
    for name, texts in FINDINGS.items():
        if not texts(mine.get(name)):
            raise p.ParameterError(name, _shown(mine.get(name)), f"{host} reports it; the audit cannot read it")
    return t.cast(t.Mapping[str, t.Any], mine)


def _is_cluster(one: t.Mapping[str, t.Any]) -> bool:
    """Whether this looks like an entry of C(clusterip_info): what it counts and lists is bounded."""
    total, owners = one.get("total_nodes"), one.get("owners")
    return (
        _whole(0, 65536)[0](total)
        and isinstance(owners, t.Mapping)
        and all(isinstance(each, (list, tuple)) and all(map(_whole(0, 65536)[0], each)) for each in owners.values())
        and one.get("hash_as") in (None, *hashing.HASHES)
        and all(one.get(key) is None or _is_text(str(one.get(key))) for key in ("address", "hash_init"))
    )


def _shown(value: t.Any) -> t.Any:
    """A value for an error message: what a host reports may be long."""
    text = value if isinstance(value, (str, int)) and not isinstance(value, bool) else repr(value)
    return f"{text[:60]}…" if isinstance(text, str) and len(text) > 60 else text
