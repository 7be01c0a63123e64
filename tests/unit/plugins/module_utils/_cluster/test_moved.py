# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import hashing
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.moved import misplaced_clients
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.management import Client


def client(real_address, cid=1):
    return Client("c", real_address, "10.8.0.2", "", 0, 0, 0, cid, 0, "")


@pytest.mark.parametrize(
    ("real", "address"),
    [
        ("198.51.100.7:40000", "198.51.100.7"),
        ("tcp4-server:198.51.100.7:40000", "198.51.100.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("2001:db8::1:7", "2001:db8::1:7"),
        ("2001:db8::7:40000", "2001:db8::7"),
        ("[2001:db8::7]:40000", "2001:db8::7"),
        ("udp6:[2001:db8::7]:40000", "2001:db8::7"),
        ("tcp6-server:[2001:db8::7]:40000", "2001:db8::7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("::ffff:198.51.100.7:40000", "198.51.100.7"),
        ("[::ffff:198.51.100.7]:40000", "198.51.100.7"),
    ],
)
def test_a_client_is_misplaced_where_its_bucket_is_not_owned(real, address):
    bucket = hashing.bucket(address, 256, 7)
    others = set(range(1, 257)) - {bucket}
    assert misplaced_clients([client(real)], {bucket}, 256, 7, ()) == []
    assert misplaced_clients([client(real)], others, 256, 7, ()) == [client(real)]


def test_ports_count_where_they_are_hashed():
    bucket = hashing.bucket("198.51.100.7", 256, 7, (40000, 443))
    assert misplaced_clients([client("198.51.100.7:40000")], {bucket}, 256, 7, (None, 443)) == []
    assert misplaced_clients([client("198.51.100.7:40001")], {bucket}, 256, 7, (None, 443)) != []


@pytest.mark.parametrize("real", ["", "nonsense", "UNDEF", "198.51.100.7", "2001:db8::7", "[2001:db8::7]", "a:b"])
def test_an_address_that_cannot_be_read_is_left_alone(real):
    assert misplaced_clients([client(real)], (), 256, 7, (None,)) == []
