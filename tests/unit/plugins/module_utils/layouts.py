# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variables of clusters for the tests of layouts."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import layout as _layout
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.request import request_from
from ansible_collections.clustered.openvpn.plugins.module_utils._state import files

UDP = {"name": "udp", "protocol": "udp", "port": 1194, "pool": "10.8.0.0/16"}
TCP = {"name": "tcp", "protocol": "tcp", "port": 443, "pool": "10.9.0.0/16"}
NOTHING = {"clusters": [], "servers": [], "in_the_way": [], "veths": [], "namespaces": [], "bridges": []}
NOTHING |= {"former_bridges": [], "nics": [], "left": [], "failover": {}}

INTERNAL_IPV6 = "fd9b:6c1e:4f02::/64"
UDP_IPV6 = {**UDP, "pool_ipv6": "fd12:3456:789a::/56"}
TCP_IPV6 = {**TCP, "pool_ipv6": "fd12:3456:789a:100::/56"}
SIX = {"ipv6_address": "2001:db8::10", "instances": [UDP_IPV6, TCP_IPV6]}

FAILOVER = {
    "placeholders": "127.64.1.0/24",
    "slots": 64,
    "linger": 0.1,
    "command": [],
    "interval": 0.5,
    "timeout": 0.8,
    "fall": 2,
    "rise": 2,
}

LAN = {
    "interfaces": ["lo", "eth0", "br0"],
    "eth0": {"mtu": 9000},
    "br0": {"ipv4": {"address": "192.0.2.2", "netmask": "255.255.255.0"}, "mtu": 9000},
    "default_ipv4": {"interface": "br0", "gateway": "192.0.2.1"},
}
BRIDGED = {"uplink": "bridged", "bridge": "br0", "first_member_address": "192.0.2.11", "facts": LAN}


def wanted(**changes):
    return {
        "name": "vpn",
        "address": "192.0.2.10",
        "interface": "eth0",
        "members": [],
        "size": 3,
        "cores": 2,
        "pin": False,
        "instances": [UDP, TCP],
        "slice_prefix": 24,
        "internal_network": "10.255.0.0/22",
        "ipv6_address": "",
        "ipv6_internal_network": INTERNAL_IPV6,
        "total_nodes": 256,
        "hash_init": 0,
        "clustermac": "",
        **changes,
    }


def members(*numbers, **weights):
    return [{"name": f"vpn{n}", "weight": weights.get(f"vpn{n}", 1)} for n in numbers]


def layout(previous=None, **changes):
    """A layout as plain data, after another one that was stored meanwhile."""
    before = files.state_of(json.loads(json.dumps(previous))) if previous else None
    others = [files.state_of(other) for other in changes.pop("others", [])]
    return files.document(_layout.layout(request_from(wanted(**changes)), before, others))


def names(items):
    return {item["name"] for item in items}


MEMBERS = st.lists(
    st.builds(
        lambda n, weight: {"name": f"vpn{n}", "weight": weight}, st.integers(1, 255), st.sampled_from([1, 1, 1, 2, 4])
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda m: m["name"],
)
INSTANCES = st.sampled_from([[UDP], [TCP], [UDP, TCP], [UDP_IPV6], [UDP_IPV6, TCP_IPV6]])
ADDRESS_IPV6 = st.sampled_from(["", "2001:db8::10"])
