# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which bucket an address falls into, bit for bit as the kernel decides it. Pure.

A bucket is the kernel's node number, 1 to total_nodes. Sources: include/linux/jhash.h, net/netfilter/nft_hash.c,
net/netfilter/xt_cluster.c, net/ipv4/netfilter/ipt_CLUSTERIP.c (until 6.2), reciprocal_scale() in include/linux/math.h.
"""

from __future__ import annotations

import ipaddress

ENGINES = ("nftables", "xt_cluster", "clusterip")
_MASK = 0xFFFFFFFF
_JHASH_INITVAL = 0xDEADBEEF


def kind(engine: str) -> str:
    """What an engine's hash is known by: two of them come to the same buckets."""
    return "nftables" if engine == "xt_cluster" else engine


def bucket(
    address: str, total_nodes: int, hash_init: int, ports: tuple[int, ...] = (), hash_as: str = "nftables"
) -> int:
    """The bucket of a client: C(jhash ip saddr [. tcp sport [. tcp dport]] mod TOTAL seed INIT offset 1) of nftables.

    Takes an IPv4 or IPv6 address as text, and for the hashmodes with ports the client's port, or that and the
    service's. C(hash_as): the engine whose hash is meant. Raises ValueError for anything else, and for what that engine
    does not hash.
    """
    packed = ipaddress.ip_address(address).packed
    if hash_as != "nftables" and len(packed) != 4:
        raise ValueError(f"{address!r}: {hash_as} hashes IPv4 addresses only")
    if hash_as == "xt_cluster" and ports:
        raise ValueError(f"ports {ports!r}: xt_cluster hashes addresses only")
    if hash_as == "clusterip":
        packed = packed[::-1]  # as a number, where the others take the bytes as they come; ports are as they come
    # Each part has whole words of 32 bits.
    data = packed + b"".join(port.to_bytes(2, "big") + b"\0\0" for port in ports)
    return reciprocal_scale(jhash(data, hash_init), total_nodes) + 1


def reciprocal_scale(value: int, end: int) -> int:
    """A 32-bit value brought into 0 … end-1 by multiplication, as the kernel does instead of a modulo."""
    return (value * end) >> 32


def jhash(data: bytes, initval: int) -> int:
    """Bob Jenkins' hash of a byte string, 32 bits, as the kernel's jhash() gives on a little-endian machine."""
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
