# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._bundle import plan, routes
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel import routing
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.routing import (
    Device,
    MultiRoute,
    RoutingRule,
    Seen,
)
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError

from .test_bundle import bundle, tunnel

LOOPBACK = Device("lo", None, addresses=frozenset({("127.0.0.1", None)}))


def held(made):
    """The observed state when the bundle is complete."""
    devices = {
        tunnel.device: Device(
            *(tunnel.device, made.device_type, True, "openvpn", "openvpn", made.alias, made.mtu, made.queue, True),
            addresses=frozenset(plan._addresses(tunnel)),
        )
        for tunnel in made.tunnels
    }
    devices["lo"] = replace(LOOPBACK, addresses=LOOPBACK.addresses | {(one, None) for one in made.addresses})
    return Seen(devices, frozenset(routes.desired_rules(made)), routes.desired_routes(made))


def commands(made, seen, listing=None):
    steps = plan.plan(made, seen, plan.sysctls(made), listing)
    return [step.text for step in steps if step.op != "nft"]


def test_what_is_there_needs_no_step():
    made = bundle(1, 1)
    assert commands(made, held(made)) == []


def test_from_nothing_everything_is_made():
    made = bundle(1)
    steps = plan.plan(made, Seen({"lo": LOOPBACK}), {}, None)
    assert [step.text for step in steps if step.op != "nft"] == [
        "ip tuntap add dev site-1 mode tun user openvpn group openvpn",
        "ip link set dev site-1 alias 'clustered.openvpn bundle site'",
        "ip link set dev site-1 mtu 1448 txqueuelen 1000",
        "sysctl -w net/ipv4/conf/site-1/forwarding=1",
        "ip link set dev site-1 up",
        "ip addr add 10.99.0.2/32 dev site-1",
        "ip addr add 10.99.0.1/32 dev lo",
        "ip -4 route add 0.0.0.0/0 table 1195 proto 197 via 10.99.0.130 dev site-1 onlink",
        "ip -4 route add 10.99.0.128/25 proto 197 src 10.99.0.1 via 10.99.0.130 dev site-1 onlink",
        "ip -4 route add 192.168.2.0/24 proto 197 src 10.99.0.1 via 10.99.0.130 dev site-1 onlink",
        "ip -4 rule add pref 10000 fwmark 1195 lookup 1195 protocol 197",
    ]


def with_ipv6(peer="fd99::8000:0:0:2"):
    """A bundle of one tunnel."""
    both = [{"local": "10.99.0.2", "peer": "10.99.0.130"}, {"local": "fd99::2", "peer": peer}]
    other = {"networks": ["192.168.2.0/24", "fd99::8000:0:0:0/65"], "addresses": ["10.99.0.1", "fd99::1"]}
    return bundle(tunnels=[tunnel(1, addresses=both)], **other)


def test_an_ipv6_peer_of_old_leaves_its_address_and_its_route():
    old, made = with_ipv6("fd99::8000:0:0:9"), with_ipv6()
    seen = held(old)
    device = replace(
        seen.devices["site-1"], addresses=frozenset({("10.99.0.2", None), ("fd99::2", "fd99::8000:0:0:9")})
    )
    texts = commands(made, replace(seen, devices={**seen.devices, "site-1": device}))
    assert [text for text in texts if " -4 " not in text] == [
        "ip addr del fd99::2/128 peer fd99::8000:0:0:9 dev site-1",
        "ip addr add fd99::2/128 dev site-1 nodad",
        "ip -6 route add fd99::8000:0:0:2/128 proto 197 dev site-1",
        "ip -6 route replace ::/0 table 1195 proto 197 via fd99::8000:0:0:2 dev site-1 onlink",
        "ip -6 route replace fd99::8000:0:0:0/65 proto 197 src fd99::1 via fd99::8000:0:0:2 dev site-1 onlink",
        "ip -6 route del fd99::8000:0:0:9/128 table 254 proto 197",
    ]


def test_no_route_waits_for_what_the_kernel_does_after_an_address():
    """IPv6: the route to the peer, and the end of duplicate address detection, sometimes come too late."""
    texts = commands(with_ipv6(), Seen({"lo": LOOPBACK}))
    assert [text for text in texts if "fd99" in text or " -6 " in text] == [
        "ip addr add fd99::2/128 dev site-1 nodad",
        "ip addr add fd99::1/128 dev lo nodad",
        "ip -6 route add fd99::8000:0:0:2/128 proto 197 dev site-1",
        "ip -6 route add ::/0 table 1195 proto 197 via fd99::8000:0:0:2 dev site-1 onlink",
        "ip -6 route add fd99::8000:0:0:0/65 proto 197 src fd99::1 via fd99::8000:0:0:2 dev site-1 onlink",
        "ip -6 rule add pref 10000 fwmark 1195 lookup 1195 protocol 197",
    ]


def test_tap_devices_have_their_link_local_address_at_once():
    """It is the source of neighbour solicitations."""
    key = "net/ipv6/conf/site-1/accept_dad"
    tap = replace(with_ipv6(), device_type="tap")
    texts = commands(tap, Seen({"lo": LOOPBACK}))
    assert texts.index(f"sysctl -w {key}=0") < texts.index("ip link set dev site-1 up")
    for made, steps in ((tap, [f"sysctl -w {key}=0"]), (with_ipv6(), [])):
        before = {**plan.sysctls(made), key: "1"}
        assert [one.text for one in plan.plan(made, held(made), before, None) if one.op == "sysctl"] == steps


def test_a_tunnel_more_leaves_the_others_alone():
    more = commands(bundle(1, 1, 1), held(bundle(1, 1)))
    main = [text for text in more if "route replace" in text and "table" not in text]
    assert len(main) == 2
    assert all("site-3" in text or "1197" in text for text in more)


def test_a_tunnel_less_leaves_the_routes_before_it_goes():
    less = commands(bundle(1, 1), held(bundle(1, 1, 1)))
    assert less == [
        "ip -4 route replace 10.99.0.128/25 proto 197 src 10.99.0.1"
        " nexthop via 10.99.0.130 dev site-1 onlink nexthop via 10.99.0.131 dev site-2 onlink",
        "ip -4 route replace 192.168.2.0/24 proto 197 src 10.99.0.1"
        " nexthop via 10.99.0.130 dev site-1 onlink nexthop via 10.99.0.131 dev site-2 onlink",
        "ip -4 route del 0.0.0.0/0 table 1197 proto 197",
        "ip -4 rule del pref 10000 fwmark 1197 lookup 1197 protocol 197",
        "ip link del dev site-3",
    ]


def test_a_rate_is_a_queueing_discipline():
    made = bundle(1)
    (tunnel,) = made.tunnels
    limited = replace(made, tunnels=(replace(tunnel, rate=40_000_000),))
    assert commands(limited, held(made)) == [
        "tc qdisc replace dev site-1 root tbf rate 40000000bit burst 25000b limit 500000b"
    ]


def test_rules_of_another_bundle_stay():
    made, seen = bundle(1), held(bundle(1))
    other = RoutingRule("ip", 10000, 2195, 2195)
    route = MultiRoute(frozenset({("10.98.0.2", "other-1", 1)}))
    there = Seen(seen.devices, seen.rules | {other}, {**seen.routes, ("ip", 2195, "0.0.0.0/0"): route})
    assert commands(made, there) == []


def test_when_it_goes_nothing_of_it_stays():
    made = bundle(1, 1)
    steps = [step.text for step in plan.plan_absent(made, held(made), None)]
    assert steps[-1] == "ip addr del 10.99.0.1/32 dev lo"
    assert [text for text in steps if "link del" in text] == ["ip link del dev site-1", "ip link del dev site-2"]
    assert len([text for text in steps if "rule del" in text]) == 2


def test_what_somebody_else_has_is_refused():
    made = bundle(1)
    with pytest.raises(ParameterError, match="an interface of this name exists"):
        plan.plan(made, Seen({"site-1": Device("site-1", None)}), {}, None)
    route = MultiRoute(frozenset({("10.98.0.2", "other-1", 1)}))
    with pytest.raises(ParameterError, match="another bundle uses this routing table"):
        plan.plan(made, Seen({}, frozenset(), {("ip", 1195, "0.0.0.0/0"): route}), {}, None)
    with pytest.raises(ParameterError, match=r"networks\[1\]: '192.168.2.0/24': the host has a route to it"):
        plan.plan(made, Seen(others=frozenset({"192.168.2.0/24"})), {}, None)
    with pytest.raises(ParameterError, match=r"networks\[1\]: '192.168.2.0/24': the host has a route to it"):
        plan.plan(made, Seen(routes={("ip", 254, "192.168.2.0/24"): route}), {}, None)
    peer = "fd99::8000:0:0:2/128"
    for seen in (Seen(others=frozenset({peer})), Seen(routes={("ip6", 254, peer): route})):
        with pytest.raises(ParameterError, match=rf"tunnels\[0\].addresses.peer: '{peer}': the host has a route to it"):
            plan.plan(with_ipv6(), seen, {}, None)


@pytest.mark.parametrize(
    ("shown", "in_the_way"),
    [
        ([], False),
        ([{"dst": "192.168.2.0/24", "protocol": "197"}], False),
        ([{"dst": "192.168.2.0/24", "protocol": "4"}], True),
        ([{"dst": "192.168.2.0/24", "protocol": "4", "metric": 100}], False),
        ([{"dst": "192.168.2.0/24", "protocol": "197"}, {"dst": "192.168.2.0/24", "type": "6"}], True),
    ],
)
def test_a_route_is_in_the_way_where_ours_would_replace_it(monkeypatch, shown, in_the_way):
    monkeypatch.setattr(routing, "_asked", lambda *words: shown)
    assert routing._others("192.168.2.0/24") is in_the_way
