# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bucket of a client's address, bit for bit as the kernel computes it. Pure.

Buckets are numbered from 1 to total_nodes, like the kernel's node numbers. Sources: include/linux/jhash.h,
net/netfilter/nft_hash.c, net/netfilter/xt_cluster.c, net/ipv4/netfilter/ipt_CLUSTERIP.c (until 6.2), and
reciprocal_scale() in include/linux/math.h.
"""

from __future__ import annotations

import ipaddress
import typing as t
from dataclasses import dataclass

DEFAULT = "nftables"  # the default of C(engine) and C(hash_as)
TOTAL_NODES, HASH_INIT = 256, 0  # the defaults of these options

_MASK = 0xFFFFFFFF
_JHASH_INITVAL = 0xDEADBEEF


@dataclass(frozen=True)
class Hash:
    """A hash of the kernel, named after the engine that it belongs to: a value of C(hash_as)."""

    name: str
    same_as: str  # the hash that gives the same buckets
    ipv6: bool = False  # whether it takes IPv6 addresses
    ports: bool = False  # whether it takes ports
    address_as_number: bool = False  # hashes the address in host byte order; the others in network byte order


HASHES: t.Mapping[str, Hash] = {
    one.name: one
    for one in (
        Hash("nftables", "nftables", ipv6=True, ports=True),
        Hash("xt_cluster", "nftables"),
        Hash("clusterip", "clusterip", ports=True, address_as_number=True),
    )
}


def canonical(hash_as: str | None) -> str | None:
    """The hash that gives the same buckets. None, the hash of damaged rules, stays None."""
    return None if hash_as is None else HASHES[hash_as].same_as


def bucket(
    address: str,
    total_nodes: int,
    hash_init: int,
    ports: tuple[int, ...] = (),
    hash_as: str = DEFAULT,
) -> int:
    """The bucket of a client, 1 to total_nodes: C(jhash ip saddr [. tcp sport [. tcp dport]] mod TOTAL seed INIT).

    address: IPv4 or IPv6, as text. ports: for a hashmode with ports, the client's port, or the client's and the
    service's. hash_as: a key of HASHES. Raises ValueError for a text that is no address, and for an address or ports
    that this hash does not take.
    """
    kind = HASHES[hash_as]
    packed = ipaddress.ip_address(address).packed
    if not kind.ipv6 and len(packed) != 4:
        raise ValueError(f"{address!r}: {hash_as} hashes IPv4 addresses only")
    if not kind.ports and ports:
        raise ValueError(f"ports {ports!r}: {hash_as} hashes addresses only")
    if kind.address_as_number:
        packed = packed[::-1]
    # Each part is padded to words of 32 bits. Ports are in network byte order in every hash.
    data = packed + b"".join(port.to_bytes(2, "big") + b"\0\0" for port in ports)
    return reciprocal_scale(jhash(data, hash_init), total_nodes) + 1


def reciprocal_scale(value: int, end: int) -> int:
    """Scale a 32-bit value to the range from 0 to end-1 by a multiplication, as the kernel does instead of a modulo."""
    return (value * end) >> 32


def jhash(data: bytes, initval: int) -> int:
    """Bob Jenkins' hash of a byte string, 32 bits, as the kernel's jhash() computes it on a little-endian machine."""
    a = b = c = (_JHASH_INITVAL + len(data) + initval) & _MASK
    while len(data) > 12:
        a, b, c = _mix(*_added((a, b, c), data[:12]))
        data = data[12:]
    return _final(*_added((a, b, c), data))[2] if data else c


def _added(state: tuple[int, int, int], block: bytes) -> tuple[int, int, int]:
    block = block.ljust(12, b"\0")
    a, b, c = ((s + int.from_bytes(block[i : i + 4], "little")) & _MASK for s, i in zip(state, (0, 4, 8)))
    return a, b, c


def _rol(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & _MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    a = ((a - c) ^ _rol(c, 4)) & _MASK
    c = (c + b) & _MASK
    b = ((b - a) ^ _rol(a, 6)) & _MASK
    a = (a + c) & _MASK
    c = ((c - b) ^ _rol(b, 8)) & _MASK
    b = (b + a) & _MASK
    a = ((a - c) ^ _rol(c, 16)) & _MASK
    c = (c + b) & _MASK
    b = ((b - a) ^ _rol(a, 19)) & _MASK
    a = (a + c) & _MASK
    c = ((c - b) ^ _rol(b, 4)) & _MASK
    b = (b + a) & _MASK
    return a, b, c


def _final(a: int, b: int, c: int) -> tuple[int, int, int]:
    c = ((c ^ b) - _rol(b, 14)) & _MASK
    a = ((a ^ c) - _rol(c, 11)) & _MASK
    b = ((b ^ a) - _rol(a, 25)) & _MASK
    c = ((c ^ b) - _rol(b, 16)) & _MASK
    a = ((a ^ c) - _rol(c, 4)) & _MASK
    b = ((b ^ a) - _rol(a, 14)) & _MASK
    c = ((c ^ b) - _rol(b, 24)) & _MASK
    return a, b, c
