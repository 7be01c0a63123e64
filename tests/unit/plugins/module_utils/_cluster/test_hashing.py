# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import hashing

# 3, 10, 17, …: the test vectors' data.
DATA = bytes((3 + 7 * i) % 256 for i in range(64))


# From a C program made from Bob Jenkins' lookup3.c; those of 4 bytes and more also from a kernel (6.18, x86-64), by
# "meta mark set jhash @th,64,BITS mod 0xffffffff seed INITVAL" over the payload of a datagram with this data.
@pytest.mark.parametrize(
    ("length", "initval", "expected"),
    [
        (0, 0, 0xDEADBEEF),
        (0, 0x1234, 0xDEADD123),
        (1, 0, 0xBB60A9CE),
        (4, 0, 0xDD608FEC),
        (4, 0x1234, 0x94E30640),
        (4, 0xFFFFFFFF, 0xF359F0D2),
        (8, 0, 0x9521E0D6),
        (11, 0, 0x5BE3B601),
        (12, 0, 0xE96B1A98),
        (12, 0x1234, 0x8CF1F471),
        (13, 0, 0xD3177396),
        (13, 0xFFFFFFFF, 0xD2F0F2DA),
        (16, 0, 0x9472EA81),
        (16, 0x1234, 0xC16927BC),
        (24, 0, 0xB448AFAB),
        (24, 0xFFFFFFFF, 0x64E32DB6),
        (25, 0, 0x13438157),
        (25, 0x1234, 0x6D829140),
        (37, 0, 0x7AF75402),
    ],
)
def test_jhash_is_that_of_the_kernel(length, initval, expected):
    assert hashing.jhash(DATA[:length], initval) == expected


# From the same kernel, by "meta mark set jhash ip saddr mod TOTAL seed INIT offset 1" and real packets.
@pytest.mark.parametrize(
    ("address", "of_256", "of_256_seeded", "of_7", "of_65536"),
    [
        ("192.0.2.1", 180, 221, 6, 46013),
        ("198.51.100.7", 141, 241, 5, 35983),
        ("203.0.113.200", 113, 84, 1, 28836),
        ("10.0.0.1", 48, 235, 7, 12198),
        ("172.31.255.254", 206, 4, 6, 52488),
        ("2001:db8::1", 15, 18, 3, 3676),
        ("2001:db8:1:2:3:4:5:6", 234, 222, 1, 59827),
        ("fd00::ff", 110, 229, 3, 27945),
    ],
)
def test_bucket_is_that_of_nftables(address, of_256, of_256_seeded, of_7, of_65536):
    assert hashing.bucket(address, 256, 0) == of_256
    assert hashing.bucket(address, 256, 0x1234) == of_256_seeded
    assert hashing.bucket(address, 7, 0xFFFFFFFF) == of_7
    assert hashing.bucket(address, 65536, 0) == of_65536


# From a kernel that has CLUSTERIP (6.1, x86-64), by rules of iptables-legacy and real packets. The columns: sourceip
# and 16 nodes; with the source port, 16 nodes, seed 0x1234; with both ports, 5 nodes, seed 0xffffffff; xt_cluster,
# 32 nodes, seed 0x1234.
@pytest.mark.parametrize(
    ("address", "port", "plain", "with_port", "with_both", "xt_cluster"),
    [
        ("204.24.85.254", 38629, 13, 12, 1, 29),
        ("211.107.148.150", 6304, 11, 3, 1, 4),
        ("125.43.58.190", 50976, 13, 5, 3, 1),
        ("67.249.160.57", 3437, 12, 2, 5, 12),
        ("1.29.154.136", 10564, 11, 8, 5, 28),
    ],
)
def test_bucket_is_that_of_the_old_engines(address, port, plain, with_port, with_both, xt_cluster):
    assert hashing.bucket(address, 16, 0, hash_as="clusterip") == plain
    assert hashing.bucket(address, 16, 0x1234, (port,), "clusterip") == with_port
    assert hashing.bucket(address, 5, 0xFFFFFFFF, (port, 1194), "clusterip") == with_both
    assert hashing.bucket(address, 32, 0x1234, hash_as="xt_cluster") == xt_cluster
    assert hashing.bucket(address, 32, 0x1234) == xt_cluster


@pytest.mark.parametrize(
    ("address", "ports", "hash_as"),
    [("2001:db8::1", (), "xt_cluster"), ("2001:db8::1", (), "clusterip"), ("192.0.2.1", (1,), "xt_cluster")],
)
def test_what_an_engine_does_not_hash_has_no_bucket(address, ports, hash_as):
    with pytest.raises(ValueError, match=hash_as):
        hashing.bucket(address, 16, 0, ports, hash_as)


@pytest.mark.parametrize(
    ("value", "end", "expected"),
    [(0, 256, 0), (0xFFFFFFFF, 256, 255), (0x00FFFFFF, 256, 0), (0x01000000, 256, 1), (0xFFFFFFFF, 1, 0)],
)
def test_a_hash_is_scaled_into_the_range(value, end, expected):
    assert hashing.reciprocal_scale(value, end) == expected


@pytest.mark.parametrize("text", ["", "192.0.2", "192.0.2.1/24", "client.example.org"])
def test_what_is_no_address_has_no_bucket(text):
    with pytest.raises(ValueError, match="does not appear to be"):
        hashing.bucket(text, 256, 0)
