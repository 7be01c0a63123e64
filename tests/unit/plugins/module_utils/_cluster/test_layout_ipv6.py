# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.layouts import (
    INTERNAL_IPV6,
    NOTHING,
    SIX,
    TCP,
    TCP_IPV6,
    UDP_IPV6,
    layout,
    members,
)


def test_a_layout_with_ipv6_has_all_that_one_without_it_has():
    four, six = layout(members=members(1, 7)), layout(members=members(1, 7), **SIX)
    assert six["addresses"] == [
        {"address": "192.0.2.10", "clustermac": "03:00:c0:00:02:0a"},
        {"address": "2001:db8::10", "clustermac": "03:06:00:00:00:10"},
    ]
    assert six["cluster"] == {**four["cluster"], "forward_ipv6": True}
    assert [m["ipv6_address"] for m in six["members"]] == ["fd9b:6c1e:4f02::b", "fd9b:6c1e:4f02::11"]
    assert six["namespaces"][0]["sysctls"]["net.ipv6.conf.all.forwarding"] == "1"
    assert not any("ipv6" in key for key in four["namespaces"][0]["sysctls"])
    peer = six["veths"][0]["peer"]
    assert peer["addresses"] == ["10.255.0.11/22", "fd9b:6c1e:4f02::b/64"]
    assert peer["routes"] == [{"dst": "default", "via": "10.255.0.1"}, {"dst": "default", "via": "fd9b:6c1e:4f02::1"}]
    bridge = six["bridges"][0]
    assert bridge["addresses"] == ["10.255.0.1/22", "fd9b:6c1e:4f02::1/64"]
    assert [r for r in bridge["routes"] if r not in four["bridges"][0]["routes"]] == [
        {"dst": "fd12:3456:789a::/64", "via": "fd9b:6c1e:4f02::b"},
        {"dst": "fd12:3456:789a:100::/64", "via": "fd9b:6c1e:4f02::b"},
        {"dst": "fd12:3456:789a:6::/64", "via": "fd9b:6c1e:4f02::11"},
        {"dst": "fd12:3456:789a:106::/64", "via": "fd9b:6c1e:4f02::11"},
    ]
    pushed = [
        'push "route-ipv6 fd12:3456:789a::/56"',
        'push "route-ipv6 fd12:3456:789a:100::/56"',
        'push "route-ipv6 fd9b:6c1e:4f02::1/128"',
    ]
    was = {k: v for k, v in four["servers"][0].items() if k != "local"}
    assert six["servers"][0] == {
        **was,
        "dual_stack": True,
        "network_ipv6": "fd12:3456:789a::/64",
        "extra_options": pushed,
    }
    assert six["push"] == four["push"]


def test_ipv6_in_the_tunnels_alone():
    result = layout(members=members(1), instances=[UDP_IPV6, TCP])
    assert [one["address"] for one in result["addresses"]] == ["192.0.2.10"]
    udp, tcp = result["servers"]
    assert udp["local"] == tcp["local"] == "192.0.2.10"
    assert "network_ipv6" in udp
    assert "extra_options" not in tcp, "its clients could not take a route of IPv6"
    assert result["bridges"][0]["addresses"][1] == "fd9b:6c1e:4f02::1/64"


def test_ipv6_comes_to_a_layout_that_knew_none():
    first = layout(members=members(1))
    del first["addresses"], first["cluster"]["forward_ipv6"]
    assert layout(first, members=members(1), **SIX)["retired"] == NOTHING


FACTS = {
    "interfaces": ["lo", "eth0", "eth1.5"],
    "lo": {"ipv4": {"address": "127.0.0.1", "netmask": "255.0.0.0"}, "ipv6": [{"address": "::1", "prefix": "128"}]},
    "eth0": {"ipv6": [{"address": "2001:db8::2", "prefix": "64"}, {"address": "fe80::1", "prefix": "64"}]},
    "eth1.5": {"ipv6": [{"address": "fd12:3456:789a:ff::1", "prefix": "64"}]},
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ipv6_address": "2001:db8::2"}, "ipv6_address: '2001:db8::2': eth0 of this host has it"),
        (
            {"instances": [UDP_IPV6]},
            "instances[udp].pool_ipv6: 'fd12:3456:789a::/56': overlaps fd12:3456:789a:ff::1/64 of eth1.5",
        ),
        (
            {"ipv6_address": "2001:db8::10", "ipv6_internal_network": "2001:db8:0:0:8000::/66"},
            "ipv6_internal_network: '2001:db8:0:0:8000::/66': overlaps 2001:db8::2/64 of eth0",
        ),
        (
            {"ipv6_address": "2001:db8::10", "facts": {"interfaces": ["lo", "eth0"]}},
            f"ipv6_internal_network: '{INTERNAL_IPV6}': IPv6 is disabled on this host",
        ),
    ],
)
def test_ipv6_that_the_host_has_or_has_not_is_refused(changes, message):
    assert layout(members=members(1), facts=FACTS, ipv6_address="2001:db8::10", instances=[TCP_IPV6])
    with pytest.raises(ParameterError) as error:
        layout(**{"members": members(1), "facts": FACTS, **changes})
    assert str(error.value).startswith(message)
