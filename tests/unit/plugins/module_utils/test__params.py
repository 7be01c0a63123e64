# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils import _params as p


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        (p.interface_name, "eth0", "eth0"),
        (p.interface_name, "eth0.100@x-_", "eth0.100@x-_"),
        (p.interface_name, "x" * 15, "x" * 15),
        (p.netns_name, "vpn1", "vpn1"),
        (p.netns_name, "_a.b:c@d+e-f", "_a.b:c@d+e-f"),
        (p.netns_name, "n" * 64, "n" * 64),
        (p.mac, None, None),
        (p.mac, "02-00-5E-00-00-aB", "02:00:5e:00:00:ab"),
        (p.interface_address, "192.0.2.1/24", "192.0.2.1/24"),
        (p.interface_address, "192.0.2.1", "192.0.2.1/32"),
        (p.interface_address, "2001:DB8:0::1/64", "2001:db8::1/64"),
        (p.interface_address, "2001:db8::1", "2001:db8::1/128"),
        (p.address, "2001:DB8::0001", "2001:db8::1"),
        (p.destination, "default", "0.0.0.0/0"),
        (p.destination, "10.8.0.0/16", "10.8.0.0/16"),
        (p.destination, "10.8.0.1", "10.8.0.1/32"),
    ],
)
def test_taken_and_normalised(function, value, expected):
    assert function("x", value) == expected


@pytest.mark.parametrize(
    ("function", "value", "remedy"),
    [
        (p.interface_name, "", "1 to 15 bytes"),
        (p.interface_name, "x" * 16, "1 to 15 bytes"),
        (p.interface_name, "é" * 8, "1 to 15 bytes"),
        *[
            (p.interface_name, bad, "no white space, slash")
            for bad in (".", "..", "a b", "a/b", "a:b", "a%d", 'a"b', "a\n")
        ],
        (p.netns_name, "", "give the name of a network namespace"),
        (p.netns_name, None, "give the name of a network namespace"),
        *[(p.netns_name, bad, "at most 64 letters") for bad in ("n" * 65, "a/b", "..", "-a", "a b", "vpn1\n")],
        *[
            (p.mac, bad, "write a MAC address as")
            for bad in ("", "02:00:00:00:00", "02:00:00:00:00:0g", "02:00:00:00:00:01\n")
        ],
        (p.mac, "03:00:00:00:00:01", "a unicast (even first byte) MAC address is needed here"),
        (p.interface_address, "192.0.2.1/33", "write an address as 192.0.2.1/24"),
        (p.interface_address, "host", "write an address as 192.0.2.1/24"),
        (p.address, "192.0.2.1/24", "without a prefix"),
        (p.network, "10.8.0.1/16", "without host bits"),
        (p.destination, "everywhere", "write a network as"),
    ],
)
def test_refused_with_parameter_value_and_remedy(function, value, remedy):
    with pytest.raises(p.ParameterError) as error:
        function("the[0].parameter", value)
    assert str(error.value).startswith(f"the[0].parameter: {value!r}: ")
    assert remedy in str(error.value)


def test_the_hosts_own_namespace_is_taken_where_it_may_be():
    assert p.netns_name("x", None, allow_empty=True) == p.netns_name("x", "", allow_empty=True) == ""


@pytest.mark.parametrize(
    ("value", "multicast", "taken"),
    [
        ("03:00:00:00:00:01", True, True),
        ("02:00:00:00:00:01", True, False),
        ("03:00:00:00:00:01", None, True),
        ("02:00:00:00:00:01", None, True),
        ("03:00:00:00:00:01", False, False),
    ],
)
def test_mac_is_unicast_or_multicast_as_needed(value, multicast, taken):
    if taken:
        assert p.mac("x", value, multicast=multicast) == value
    else:
        with pytest.raises(p.ParameterError, match="MAC address is needed here"):
            p.mac("x", value, multicast=multicast)


@pytest.mark.parametrize(("function", "value"), [(p.address, "2001:db8::1"), (p.network, "2001:db8::/64")])
def test_the_other_ip_version_is_refused(function, value):
    assert str(function("x", value, version=6)) == value
    with pytest.raises(p.ParameterError, match=r"an IPv4 .* is needed here"):
        function("x", value, version=4)


def test_default_has_the_version_of_its_gateway():
    assert p.destination("x", "default", via="fe80::1") == "::/0"
    assert p.destination("x", "default", via="192.0.2.1") == "0.0.0.0/0"


def test_unique_names_what_comes_twice():
    p.unique("x", ["a", "b"])
    with pytest.raises(p.ParameterError, match=r"^x: 'a': named twice"):
        p.unique("x", iter(["a", "b", "a"]))
