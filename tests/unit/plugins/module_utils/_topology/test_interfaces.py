# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.observed import RTPROT_STATIC, Route
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.steps import step
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.plugins.module_utils._topology import bridges as _bridges
from ansible_collections.clustered.openvpn.plugins.module_utils._topology import interfaces as _interfaces
from ansible_collections.clustered.openvpn.plugins.module_utils._topology import namespaces as _namespaces
from ansible_collections.clustered.openvpn.plugins.module_utils._topology import veths as _veths
from ansible_collections.clustered.openvpn.plugins.module_utils._topology.bridges import Bridge
from ansible_collections.clustered.openvpn.plugins.module_utils._topology.interfaces import Interface
from ansible_collections.clustered.openvpn.plugins.module_utils._topology.namespaces import Namespace
from ansible_collections.clustered.openvpn.plugins.module_utils._topology.veths import Veth
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.model import MACS, Model

# --- strategies: every attribute may be given or not, ends may be anywhere

ADDRESSES = ["10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24", "10.1.0.1/16", "2001:db8::1/64", "2001:db8::2/64"]
ROUTES = [Route("192.0.2.0/24"), Route("192.0.2.0/24", "198.51.100.1"), Route("0.0.0.0/0", "198.51.100.1")]
# The gateway is reached over a route, not an address: so it is there whatever the addresses are.
GATEWAY = Route("198.51.100.0/24")


def interfaces(name, netns):
    return st.builds(
        Interface,
        name=st.just(name),
        netns=st.just(netns),
        mac=st.sampled_from([None, *MACS[:2]]),
        mtu=st.sampled_from([None, 1400, 1500]),
        up=st.booleans(),
        addresses=st.frozensets(st.sampled_from(ADDRESSES)),
        routes=st.lists(st.sampled_from(ROUTES), unique_by=lambda r: r.dst).map(lambda r: frozenset({GATEWAY, *r})),
    )


ENDS = [("v1", ""), ("v2", ""), ("v1", "a"), ("v2", "b")]


@st.composite
def veths(draw):
    ends = draw(st.permutations(ENDS))
    return [
        Veth(*(draw(interfaces(*end)) for end in ends[i : i + 2])) for i in range(0, 2 * draw(st.integers(0, 2)), 2)
    ]


@st.composite
def bridges(draw):
    names = draw(st.permutations(["br1", "br2"]))[: draw(st.integers(0, 2))]
    ports = draw(st.permutations(["p1", "p2", "p3"]))
    result = []
    for name, some in zip(names, (ports[: draw(st.integers(0, 2))], ports[2:])):
        fdb = draw(st.dictionaries(st.sampled_from(MACS), st.sampled_from(some))) if some else {}
        flags = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
        result.append(Bridge(draw(interfaces(name, "")), *flags, ports=tuple(some), fdb=frozenset(fdb.items())))
    return result


@st.composite
def namespaces(draw):
    sysctls = st.dictionaries(st.sampled_from(["net.a", "net.b"]), st.sampled_from("01"))
    names = draw(st.lists(st.sampled_from("abc"), unique=True))
    return [Namespace(name, draw(sysctls)) for name in names]


def converge(model, planner, wanted, present=True):
    """Carry out the planned steps and return them; a second plan is empty."""
    steps = planner(wanted, present, model.views)
    model.apply(steps)
    assert [s.text for s in planner(wanted, present, model.views)] == []
    return [s.text for s in steps]


def as_wanted(want, view):
    """Whether an interface has the desired state, without use of the planner."""
    link = view.links[want.name]
    return (
        want.mac in (None, link.mac)
        and want.mtu in (None, link.mtu)
        and want.addresses == link.addresses
        and want.up == link.up
        and (link.routes.get(RTPROT_STATIC) == want.routes or not want.up)
    )


@given(namespaces(), namespaces())
def test_namespaces_converge_from_any_state_to_any(before, after):
    model = Model()
    converge(model, _namespaces.plan_namespaces, before)
    converge(model, _namespaces.plan_namespaces, after)
    assert all(model.views[ns.name].links["lo"].up for ns in after)
    assert all(ns.sysctls.items() <= model.views[ns.name].sysctls.items() for ns in after)
    converge(model, _namespaces.plan_namespaces, after, present=False)
    assert not any(model.views[ns.name].exists for ns in after)


@given(veths(), veths())
def test_veths_converge_from_any_state_to_any(before, after):
    model = Model("a", "b")
    converge(model, _veths.plan_veths, before)
    converge(model, _veths.plan_veths, after)
    assert all(as_wanted(end, model.views[end.netns]) for veth in after for end in (veth.end, veth.peer))
    converge(model, _veths.plan_veths, after, present=False)
    assert not any(end.name in model.views[end.netns].links for v in after for end in (v.end, v.peer))


@given(bridges(), bridges())
def test_bridges_converge_from_any_state_to_any(before, after):
    model = Model()
    for port in ("p1", "p2", "p3"):
        model.add("", port)
    converge(model, _bridges.plan_bridges, before)
    converge(model, _bridges.plan_bridges, after)
    for bridge in after:
        assert as_wanted(bridge.interface, model.views[""])
        assert model.views[""].links[bridge.interface.name].mcast_snooping == bridge.mcast_snooping
        ports = [x for x in model.views[""].links.values() if x.master == bridge.interface.name]
        assert {(mac, x.name) for x in ports for mac in x.fdb} == bridge.fdb
        assert {x.name for x in ports} == set(bridge.ports)
        assert all((x.flood, x.learning) == (bridge.flood, bridge.learning) for x in ports)
    converge(model, _bridges.plan_bridges, after, present=False)
    assert {"p1", "p2", "p3"} <= set(model.views[""].links)


# --- drift: one thing done by hand, and just that is put right

VETH = Veth(
    Interface("ve", "", MACS[1], 1400),
    Interface(
        "eth0",
        "a",
        MACS[2],
        1500,
        addresses=frozenset({"10.0.0.2/24", "2001:db8::2/64"}),
        routes=frozenset({Route("0.0.0.0/0", "10.0.0.1"), Route("192.0.2.0/24", None, "10.0.0.2")}),
    ),
)
DEFAULT = "ip -n a route add 0.0.0.0/0 via 10.0.0.1 dev eth0 proto static"
DIRECT = "ip -n a route add 192.0.2.0/24 dev eth0 src 10.0.0.2 proto static"


def test_a_pair_is_made_in_place_and_its_routes_come_when_both_ends_are_up():
    assert converge(Model("a"), _veths.plan_veths, [VETH]) == [
        f"ip link add ve address {MACS[1]} mtu 1400 type veth peer name eth0 netns a address {MACS[2]} mtu 1500",
        "ip link set dev ve up",
        "ip -n a addr add 10.0.0.2/24 dev eth0",
        "ip -n a addr add 2001:db8::2/64 dev eth0",
        "ip -n a link set dev eth0 up",
        DIRECT,
        DEFAULT,
    ]


@pytest.mark.parametrize(
    ("by_hand", "repair"),
    [
        (step("link_mac", dev="ve", mac=MACS[4]), [f"ip link set dev ve address {MACS[1]}"]),
        (step("link_mtu", "a", dev="eth0", mtu=1300), ["ip -n a link set dev eth0 mtu 1500"]),
        (step("link_down", dev="ve"), ["ip link set dev ve up"]),
        (
            step("link_down", "a", dev="eth0"),
            ["ip -n a addr add 2001:db8::2/64 dev eth0", "ip -n a link set dev eth0 up", DIRECT, DEFAULT],
        ),
        (step("addr_add", "a", dev="eth0", address="10.9.0.1/24"), ["ip -n a addr del 10.9.0.1/24 dev eth0"]),
        (step("addr_del", "a", dev="eth0", address="2001:db8::2/64"), ["ip -n a addr add 2001:db8::2/64 dev eth0"]),
        (step("addr_add", "a", dev="eth0", address="fe80::1/64"), []),
        (step("route_del", "a", dev="eth0", dst="0.0.0.0/0", via="10.0.0.1", proto="static"), [DEFAULT]),
        (
            step("route_replace", "a", dev="eth0", dst="0.0.0.0/0", via="10.0.0.9", src=None, proto="static"),
            [DEFAULT.replace("route add", "route replace")],
        ),
        (
            step("route_replace", "a", dev="eth0", dst="198.51.100.0/24", via=None, src=None, proto="static"),
            ["ip -n a route del 198.51.100.0/24 dev eth0 proto static"],
        ),
        # Somebody else's routes are known by their protocol.
        (step("route_replace", "a", dev="eth0", dst="198.51.100.0/24", via=None, src=None, proto=186), []),
    ],
)
def test_drift_of_a_pair_is_put_right_alone(by_hand, repair):
    model = Model("a")
    converge(model, _veths.plan_veths, [VETH])
    model.apply([by_hand])
    assert converge(model, _veths.plan_veths, [VETH]) == repair


def test_an_end_without_its_peer_is_made_anew():
    model = Model("a")
    converge(model, _veths.plan_veths, [replace(VETH, peer=replace(VETH.peer, name="other"))])
    steps = converge(model, _veths.plan_veths, [VETH])
    assert steps[0] == "ip link del dev ve"
    assert steps[1].startswith("ip link add ve ")
    assert "other" not in model.views["a"].links


def test_pairs_that_have_swapped_their_ends_are_made_anew():
    model = Model("a", "b")
    v1, v2, a, b = (Interface(*end) for end in (("v1", ""), ("v2", ""), ("eth0", "a"), ("eth0", "b")))
    converge(model, _veths.plan_veths, [Veth(v1, a), Veth(v2, b)])
    converge(model, _veths.plan_veths, [Veth(v1, b), Veth(v2, a)])


def test_removing_one_end_removes_the_pair():
    model = Model("a")
    converge(model, _veths.plan_veths, [VETH])
    assert converge(model, _veths.plan_veths, [VETH], present=False) == ["ip link del dev ve"]


BRIDGE = Bridge(
    Interface(
        "br0", "", MACS[1], addresses=frozenset({"10.0.0.1/24"}), routes=frozenset({Route("10.8.0.0/24", "10.0.0.2")})
    ),
    mcast_snooping=False,
    flood=False,
    learning=True,
    ports=("p1", "p2"),
    fdb=frozenset({(MACS[2], "p1"), (MACS[3], "p2")}),
)


def bridge_model():
    model = Model()
    for port in ("p1", "p2", "p3"):
        model.add("", port)
    return model


def test_a_bridge_is_made_with_its_ports_and_their_entries():
    assert converge(bridge_model(), _bridges.plan_bridges, [BRIDGE]) == [
        f"ip link add br0 address {MACS[1]} type bridge mcast_snooping 0",
        "ip addr add 10.0.0.1/24 dev br0",
        "ip link set dev br0 up",
        "ip link set dev p1 master br0",
        "bridge link set dev p1 flood off learning on",
        f"bridge fdb replace {MACS[2]} dev p1 master static",
        "ip link set dev p2 master br0",
        "bridge link set dev p2 flood off learning on",
        f"bridge fdb replace {MACS[3]} dev p2 master static",
        "ip route add 10.8.0.0/24 via 10.0.0.2 dev br0 proto static",
    ]


@pytest.mark.parametrize(
    ("by_hand", "repair"),
    [
        (step("bridge_snooping", dev="br0", snooping=1), ["ip link set dev br0 type bridge mcast_snooping 0"]),
        (step("link_mac", dev="br0", mac=MACS[4]), [f"ip link set dev br0 address {MACS[1]}"]),
        (step("link_mtu", dev="br0", mtu=1300), []),  # none was asked for
        (step("link_master", dev="p3", master="br0"), ["ip link set dev p3 nomaster"]),
        (
            step("link_nomaster", dev="p2"),
            [
                "ip link set dev p2 master br0",
                "bridge link set dev p2 flood off learning on",
                f"bridge fdb replace {MACS[3]} dev p2 master static",
            ],
        ),
        (step("port_set", dev="p2", flood="on", learning="on"), ["bridge link set dev p2 flood off learning on"]),
        (step("port_set", dev="p2", flood="off", learning="off"), ["bridge link set dev p2 flood off learning on"]),
        (step("fdb_del", dev="p1", mac=MACS[2]), [f"bridge fdb replace {MACS[2]} dev p1 master static"]),
        (step("fdb_replace", dev="p1", mac=MACS[4]), [f"bridge fdb del {MACS[4]} dev p1 master"]),
        (step("fdb_replace", dev="p2", mac=MACS[2]), [f"bridge fdb replace {MACS[2]} dev p1 master static"]),
        (step("fdb_replace", dev="p1", mac=MACS[3]), [f"bridge fdb replace {MACS[3]} dev p2 master static"]),
        (
            step("link_down", dev="br0"),
            ["ip link set dev br0 up", "ip route add 10.8.0.0/24 via 10.0.0.2 dev br0 proto static"],
        ),
    ],
)
def test_drift_of_a_bridge_is_put_right_alone(by_hand, repair):
    model = bridge_model()
    converge(model, _bridges.plan_bridges, [BRIDGE])
    model.apply([by_hand])
    assert converge(model, _bridges.plan_bridges, [BRIDGE]) == repair


def test_an_address_that_others_depend_on_goes_without_taking_them_along():
    model = bridge_model()
    converge(model, _bridges.plan_bridges, [BRIDGE])
    wanted = replace(BRIDGE, interface=replace(BRIDGE.interface, addresses=frozenset({"10.0.0.3/24"})))
    converge(model, _bridges.plan_bridges, [wanted])
    assert model.views[""].links["br0"].addresses == {"10.0.0.3/24"}


@pytest.mark.parametrize(
    ("by_hand", "repair"),
    [
        (step("link_down", "a", dev="lo"), ["ip -n a link set dev lo up"]),
        (step("sysctl", "a", key="net.x", value="0"), ["ip netns exec a sysctl -w net.x='1 2'"]),
        (step("sysctl", "a", key="net.other", value="0"), []),
        (step("netns_del", name="b"), ["ip netns add b", "ip -n b link set dev lo up"]),
    ],
)
def test_drift_of_namespaces_is_put_right_alone(by_hand, repair):
    wanted = [Namespace("a", {"net.x": "1 2"}), Namespace("b", {})]
    model = Model()
    converge(model, _namespaces.plan_namespaces, wanted)
    model.apply([by_hand])
    assert converge(model, _namespaces.plan_namespaces, wanted) == repair


# --- what is refused, and what must be there


@pytest.mark.parametrize(
    ("kind", "found"), [(None, "a loopback or hardware interface"), ("dummy", "a dummy"), ("bridge", "a bridge")]
)
def test_an_interface_of_another_kind_is_not_taken(kind, found):
    model = Model("a")
    model.add("a", "eth0", kind)
    with pytest.raises(ParameterError) as error:
        _veths.plan_veths([VETH], True, model.views)
    assert str(error.value).startswith(f"veths[0].name: 'eth0': this name belongs to {found} in namespace a; choose")


def test_missing_namespaces_and_ports_are_named():
    sentences = _interfaces.missing([VETH.end, VETH.peer], Model().views) + _bridges.missing([BRIDGE], Model().views)
    assert [s.split(";")[0] for s in sentences] == [
        "netns: 'a': no such network namespace",
        "bridges.ports: 'p1': no such interface",
        "bridges.ports: 'p2': no such interface",
    ]
    assert _interfaces.missing([VETH.end, VETH.peer], Model("a").views) == []
    assert _bridges.missing([BRIDGE], bridge_model().views) == []
    shared = _bridges.missing([replace(BRIDGE, exclusive=False)], bridge_model().views)
    assert shared == ["bridges.name: 'br0': no such bridge, and exclusive=false creates none"]


def test_a_bridge_that_is_somebody_elses_keeps_what_is_not_named():
    model = bridge_model()
    model.add("", "br0", "bridge", up=True, addresses=frozenset({"10.9.9.9/24"}), mcast_snooping=True)
    model.add("", "theirs", master="br0", up=True)
    theirs = step("route_add", dev="br0", dst="198.18.0.0/16", via=None, src=None, proto="static")
    model.apply([theirs])
    before = model.views[""]
    wanted = Bridge(
        Interface("br0", "", routes=frozenset({Route("192.0.2.0/24")})),
        *(False, False, False),
        ports=("p1",),
        fdb=frozenset({(MACS[1], "p1")}),
        exclusive=False,
    )
    assert converge(model, _bridges.plan_bridges, [wanted]) == [
        "ip link set dev p1 master br0",
        "bridge link set dev p1 flood off learning off",
        f"bridge fdb replace {MACS[1]} dev p1 master static",
        "ip route add 192.0.2.0/24 dev br0 proto static",
    ]
    converge(model, _bridges.plan_bridges, [wanted], present=False)
    assert model.views[""].links["br0"] == before.links["br0"]
    assert model.views[""].links["theirs"].master == "br0"
    assert model.views[""].links["p1"].master is None


def test_parameters_become_interfaces():
    item = {
        "name": "ve",
        "mac": "02-00-00-00-00-01",
        "peer": {"name": "eth0", "netns": "a", "up": False, "addresses": ["10.0.0.2"], "routes": [{"dst": "default"}]},
    }
    assert _veths.veths_from([item]) == [
        Veth(
            Interface("ve", "", MACS[1]),
            Interface(
                "eth0", "a", up=False, addresses=frozenset({"10.0.0.2/32"}), routes=frozenset({Route("0.0.0.0/0")})
            ),
        )
    ]
    flags = {"mcast_snooping": False, "flood": True, "learning": False, "exclusive": True}
    item = {"name": "br0", "ports": ["p"], "fdb": [{"mac": MACS[1].upper(), "port": "p"}], **flags}
    assert _bridges.bridges_from([item]) == [
        Bridge(Interface("br0", ""), False, True, False, ("p",), frozenset({(MACS[1], "p")}))
    ]
    assert _namespaces.namespaces_from([{"name": "a", "sysctls": {"net.x": True, "net/y/eth0.1/z": "1\t 2"}}]) == [
        Namespace("a", {"net.x": "1", "net/y/eth0.1/z": "1 2"})
    ]


def pair(**end):
    return _veths.veths_from, [{"name": "ve", "peer": {"name": "eth0", "netns": "a"}, **end}]


def bridge(**item):
    flags = {"mcast_snooping": False, "flood": True, "learning": True, "exclusive": True}
    return _bridges.bridges_from, [{"name": "br0", "ports": ["p", "q"], **flags, **item}]


def netns(**sysctls):
    return _namespaces.namespaces_from, [
        {"name": "a", "sysctls": {k.replace("__", "."): v for k, v in sysctls.items()}}
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (netns(kernel__pid_max=1), "namespaces[0].sysctls: 'kernel.pid_max': only net.* belongs"),
        (netns(**{"net/../kernel/x": 1}), "namespaces[0].sysctls: 'net/../kernel/x': write a key as"),
        ((_namespaces.namespaces_from, [{"name": "a"}, {"name": "a"}]), "namespaces.name: 'a': named twice"),
        (pair(mtu=67), "veths[0].mtu: 67: an MTU lies between 68 and 65535"),
        (pair(mac=MACS[1].replace("02", "03")), "veths[0].mac: '03:00:00:00:00:01': a unicast"),
        (pair(peer={"name": "ve"}), "veths.name: 've': named twice"),
        (
            pair(peer={"name": "x", "routes": [{"dst": "10.0.0.1/8"}]}),
            "veths[0].peer.routes[0].dst: '10.0.0.1/8': write",
        ),
        (pair(routes=[{"dst": "default", "via": "x"}]), "veths[0].routes[0].via: 'x': write an address"),
        (
            pair(routes=[{"dst": "default", "via": "10.0.0.1"}, {"dst": "0.0.0.0/0", "via": "10.0.0.2"}]),
            "veths[0].routes.dst: '0.0.0.0/0': named twice",
        ),
        (bridge(ports=["p", "p"]), "bridges[0].ports: 'p': named twice"),
        (bridge(exclusive=False, mtu=1400), "bridges[0].mtu: 1400: exclusive=false leaves the bridge itself"),
        ((_bridges.bridges_from, [*bridge()[1], *bridge(name="br1")[1]]), "bridges.ports: 'p': named twice"),
        (
            bridge(fdb=[{"mac": MACS[1], "port": "x"}]),
            "bridges[0].fdb[0].port: 'x': must be one of the ports ['p', 'q']",
        ),
        (
            bridge(fdb=[{"mac": MACS[1], "port": "p"}, {"mac": MACS[1], "port": "q"}]),
            f"bridges[0].fdb.mac: '{MACS[1]}': named twice",
        ),
    ],
)
def test_refused_before_anything_is_touched(call, message):
    function, items = call
    with pytest.raises(ParameterError) as error:
        function(items)
    assert str(error.value).startswith(message)
