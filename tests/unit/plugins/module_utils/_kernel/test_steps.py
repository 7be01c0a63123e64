# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.changes import Changes
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.steps import _COMMANDS, prepared_diff, step


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (step("netns_add", name="vpn1"), "ip netns add vpn1"),
        (step("link_up", "vpn1", dev="lo"), "ip -n vpn1 link set dev lo up"),
        (step("bridge_add", dev="br0", mac=None, mtu=None, snooping=0), "ip link add br0 type bridge mcast_snooping 0"),
        (
            step("bridge_add", dev="br0", mac="02:00:00:00:00:01", mtu=9000, snooping=1),
            "ip link add br0 address 02:00:00:00:00:01 mtu 9000 type bridge mcast_snooping 1",
        ),
        (
            step("veth_add", dev="a", mac=None, mtu=None, peer="b", peer_netns=None, peer_mac=None, peer_mtu=None),
            "ip link add a type veth peer name b",
        ),
        (
            step(
                "veth_add",
                dev="a",
                mac=None,
                mtu=1400,
                peer="b",
                peer_netns="v",
                peer_mac="02:00:00:00:00:01",
                peer_mtu=9,
            ),
            "ip link add a mtu 1400 type veth peer name b netns v address 02:00:00:00:00:01 mtu 9",
        ),
        (
            step("route_replace", "v", dev="eth0", dst="0.0.0.0/0", via="10.0.0.1", src=None, proto="static"),
            "ip -n v route replace 0.0.0.0/0 via 10.0.0.1 dev eth0 proto static",
        ),
        (
            step("route_replace", dev="br0", dst="192.0.2.1/32", via=None, src="10.0.0.1", proto=196),
            "ip route replace 192.0.2.1/32 dev br0 src 10.0.0.1 proto 196",
        ),
        (
            step("fdb_replace", "v", dev="p1", mac="02:00:00:00:00:01"),
            "bridge -n v fdb replace 02:00:00:00:00:01 dev p1 master static",
        ),
        (step("sysctl", key="net.ipv4.ip_forward", value="1"), "sysctl -w net.ipv4.ip_forward=1"),
        (
            step("sysctl", "v", key="net.ipv4.tcp_rmem", value="1 2 3"),
            "ip netns exec v sysctl -w net.ipv4.tcp_rmem='1 2 3'",
        ),
        (
            step("nft", lines=["add table ip t", "add chain ip t c"]),
            "nft -f - <<'EOF'\nadd table ip t\nadd chain ip t c\nEOF",
        ),
        (step("nft", "v", lines=["add table ip t"]), "ip netns exec v nft -f - <<'EOF'\nadd table ip t\nEOF"),
        (step("ip", "v", words=["link", "set", "dev", "x", "alias", "a b"]), "ip -n v link set dev x alias 'a b'"),
        (step("link_down", "a;b", dev="x$y"), "ip -n 'a;b' link set dev 'x$y' down"),
    ],
)
def test_a_step_reads_as_the_command(one, text):
    assert one.text == text


def test_a_needed_argument_is_not_left_out():
    with pytest.raises(KeyError):
        assert step("addr_add", dev="eth0", address=None).text


def test_every_step_can_be_done():
    assert [op for op in [*_COMMANDS, "nft", "iptables", "ip", "tc"] if not hasattr(Changes, "_" + op)] == []


def test_the_diff_is_one_command_a_line():
    steps = [step("netns_add", name="a"), step("link_up", "a", dev="lo")]
    assert prepared_diff(one.text for one in steps) == {"prepared": "ip netns add a\nip -n a link set dev lo up\n"}
    assert prepared_diff([]) == {"prepared": ""}
