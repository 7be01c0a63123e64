# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands that modules print, run by a shell in another world, have the same effect as the modules.

Topologies are generated, created, changed by hand, repaired, changed into others, and removed; check mode predicts each
run. TOPOLOGIES=200 tries more of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import typing as t
from itertools import count

from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from .served import ServedWorld, State, differences_at_last, states_of
from .world import World, sh

TOPOLOGIES = int(os.environ.get("TOPOLOGIES", "8"))

# In parameters and commands "@" is the prefix of a world, as in "@-a", a namespace.
PREFIX = "@"
NAMESPACES = ("@-a", "@-b")
VETHS = 3
SYSCTLS = {
    "net.ipv4.ip_forward": (0, 1, True),
    "net/ipv4/conf/all/arp_ignore": (0, 1, "2"),
    "net.ipv6.conf.default.accept_ra": (0, 1, 2),
    "net.ipv4.ping_group_range": ("0 100", "1\t0"),
    "net/ipv4/conf/lo/rp_filter": ("0", "1"),
}
# What happens by hand between one run and the next; what is not there cannot be damaged.
DAMAGES = (
    "ip netns del @-a",
    "ip netns del @-b; ip netns add @-b",
    "ip -n @-host link del ve0",
    "ip -n @-a link del pe0",
    "ip -n @-host link del br0",
    "ip -n @-host link set br0 down",
    "ip -n @-host link set ve1 down",
    "ip -n @-host addr flush dev br0",
    "ip -n @-host route flush proto static",
    "ip -n @-a link set pe1 address 02:00:00:00:99:99 mtu 1444",
    "ip -n @-a addr add 10.99.0.1/24 dev pe1",
    "ip -n @-host link set ve0 nomaster",
    "bridge -n @-host link set dev ve0 flood off learning off",
    "bridge -n @-host fdb add 02:00:00:00:98:98 dev ve0 master static",
    "ip netns exec @-host nft flush ruleset",
    "ip netns exec @-a nft flush ruleset",
    "ip netns exec @-host nft add rule netdev clustered_openvpn_h uplink accept",
    "ip -n @-host link set nic0 down; ip -n @-host link set nic0 up",
)
Parameters = dict[str, t.Any]

# --- generated parameters ---------------------------------------------------------------------------------------------


def mac_of(number: int, variant: int) -> str:
    """MAC addresses for interfaces."""
    return f"02:00:00:00:{variant:02x}:{number:02x}"


MACS = {mac_of(n, v) for n in range(2 * VETHS + 2) for v in (1, 2)}


@st.composite
def interfaces(draw: st.DrawFn, number: int, name: str, netns: str) -> Parameters:
    """One interface with networks of its own; all options are optional."""
    networks = (f"10.0.{number}", f"fd00:{number}:")
    candidates = [f"{networks[0]}.{host}" for host in ("1/24", "2/24", "7/24", "9/32", "33/28")]
    candidates += [f"{networks[1]}:{host}" for host in ("1/64", "2/64", "9/128")]
    addresses = draw(st.lists(st.sampled_from(candidates), unique=True, max_size=5))
    up = draw(st.integers(0, 4)) > 0
    routes: list[Parameters] = []
    if up:
        four, six = f"{networks[0]}.99", f"{networks[1]}:99"
        possible: list[Parameters] = [{"dst": f"10.1.{number}.0/24"}]
        if any("/24" in a for a in addresses):
            possible += [{"dst": f"10.2.{number}.0/24", "via": four}, {"dst": f"10.3.{number}.1/32", "via": four}]
            if number == 1:
                possible.append({"dst": "default", "via": four})
        if f"{networks[0]}.1/24" in addresses:
            possible.append({"dst": f"10.4.{number}.0/24", "via": four, "src": f"{networks[0]}.1"})
        if any("/64" in a for a in addresses):
            possible += [{"dst": f"fd02:{number}::/64", "via": six}, {"dst": f"fd03:{number}::/64"}]
            if number == 1:
                possible.append({"dst": "default", "via": six})
        keys = draw(st.lists(st.integers(0, len(possible) - 1), unique=True, max_size=4))
        routes = [possible[key] for key in keys]
        seen: dict[str, Parameters] = {}
        routes = [seen.setdefault(r["dst"], r) for r in routes if r["dst"] not in seen]
    result = {"name": name, "up": up, "addresses": addresses, "routes": routes}
    if netns != "@-host":
        result["netns"] = netns
    if (variant := draw(st.integers(0, 2))) > 0:
        result["mac"] = mac_of(number, variant)
    if (mtu := draw(st.sampled_from([None, None, 1280, 1400, 1500, 9000]))) is not None:
        result["mtu"] = mtu
    return result


@st.composite
def topologies(draw: st.DrawFn) -> dict[str, Parameters]:
    """Parameters of the modules, in the order in which they run."""
    places = ("@-host", *NAMESPACES)
    namespaces = [
        {
            "name": name,
            "sysctls": {
                key: draw(st.sampled_from(SYSCTLS[key]))
                for key in draw(st.lists(st.sampled_from(sorted(SYSCTLS)), unique=True, max_size=3))
            },
        }
        for name in NAMESPACES
    ]
    # Mostly as in a cluster: from the host to a namespace.
    ends = st.sampled_from([("@-host", "@-a"), ("@-host", "@-b"), ("@-host", "@-a"), ("@-a", "@-b"), ("@-b", "@-b")])
    veths, where = [], {}
    for i in range(draw(st.integers(1, VETHS))):
        end, peer = draw(ends)
        veth = draw(interfaces(2 * i, f"ve{i}", end))
        veth["peer"] = draw(interfaces(2 * i + 1, f"pe{i}", peer))
        veths.append(veth)
        where[f"ve{i}"], where[f"pe{i}"] = end, peer
    bridges = []
    free = set(where)
    for i in range(draw(st.integers(0, 2))):
        netns = "@-host" if i == 0 else draw(st.sampled_from(places))
        near = sorted(name for name in free if where[name] == netns)
        ports = without_loops(draw(st.lists(st.sampled_from(near), unique=True)) if near else [], bridges)
        free -= set(ports)
        fdb = [
            {"mac": f"02:00:00:00:ff:{j:02x}", "port": draw(st.sampled_from(ports))}
            for j in range(draw(st.integers(0, 3)) if ports else 0)
        ]
        flags = {flag: draw(st.booleans()) for flag in ("mcast_snooping", "flood", "learning")}
        bridges.append({**draw(interfaces(2 * VETHS + i, f"br{i}", netns)), "ports": ports, "fdb": fdb, **flags})
    result = {"netns": {"namespaces": namespaces}, "veth": {"veths": veths}, "bridge": {"bridges": bridges}}
    if bridges and draw(st.integers(0, 3)) > 0:
        bridges[0]["up"] = True  # or there is no route over it
        result["clusterip"] = draw(clusters({place: name for name, place in sorted(where.items())}))
    return result


def without_loops(ports: list[str], bridges: list[Parameters]) -> list[str]:
    """Ports that do not form a loop: a frame in a loop would occupy a core until the bridges are removed."""
    others = {port for bridge in bridges for port in bridge["ports"]}
    result: list[str] = []
    leading = 0
    for port in ports:
        other = ("pe" if port.startswith("ve") else "ve") + port[2:]
        leading += other in others
        if other not in result and not (other in others and leading > 1):
            result.append(port)
    return result


@st.composite
def clusters(draw: st.DrawFn, interface_in: t.Mapping[str, str]) -> Parameters:
    """A cluster of the namespaces that have an interface."""
    total = draw(st.sampled_from([1, 4, 16]))
    names = [name for name in NAMESPACES if name in interface_in]
    owners = draw(st.lists(st.sampled_from([*names, None]), min_size=total, max_size=total))
    mode = draw(st.sampled_from(["sourceip", "sourceip", "sourceip-sourceport", "sourceip-sourceport-destport"]))
    protocols = ["tcp"] if mode != "sourceip" else ["tcp", "udp"]
    services = st.tuples(st.sampled_from(protocols), st.sampled_from([443, 1194]))
    return {
        "name": "h",
        "address": draw(st.sampled_from(["192.0.2.10", "2001:db8::10"])),
        "interface": "nic0",
        "bridge": "br0",
        "distribution": draw(st.sampled_from(["steer", "flood"])),
        "hashmode": mode,
        "hash_init": draw(st.sampled_from([0, 0x1234, 0xFFFFFFFF])),
        "total_nodes": total,
        "services": [{"protocol": p, "port": n} for p, n in draw(st.lists(services, unique=True, max_size=3))],
        "nodes": [
            {
                "netns": name,
                "interface": interface_in[name],
                "mac": f"02:00:00:00:ff:{i:02x}",
                "local_nodes": [number + 1 for number, owner in enumerate(owners) if owner == name],
            }
            for i, name in enumerate(names)
        ],
    }


# --- the two worlds ---------------------------------------------------------------------------------------------------

_numbers = count()


class Twins:
    """Two worlds: modules run in one, and their printed commands in the other."""

    def __init__(self) -> None:
        number = next(_numbers)
        self.modules = ServedWorld(f"hm{os.getpid() % 10000}x{number}")
        self.shell = World(f"hs{os.getpid() % 10000}x{number}")
        self.worlds: tuple[World, World] = (self.modules, self.shell)
        for world in self.worlds:
            world.lan()

    def __enter__(self) -> Twins:
        return self

    def __exit__(self, *exc_info: t.Any) -> None:
        for world in self.worlds:
            world.remove()

    def damage(self, command: str) -> None:
        """Run a command in both worlds."""
        for world in self.worlds:
            sh(f"{{ {command}; }} 2> /dev/null".replace(PREFIX, world.prefix), check=False)
        if "netns del" in command:  # the kernel takes its links down a moment later
            sh("sleep 0.2")

    def run(self, topology: dict[str, Parameters], state: str) -> list[str]:
        """Run the modules in one world and their printed commands in the other; return the commands."""
        printed = []
        for module, parameters in topology.items() if state == "present" else reversed(topology.items()):
            mine = json.loads(json.dumps(parameters).replace(PREFIX, self.modules.prefix))
            predicted = self.modules.module(module, **mine, state=state, check=True)
            done = self.modules.module(module, **mine, state=state)
            script = done["diff"]["prepared"]
            assert predicted["diff"]["prepared"] == script, "check mode returns the commands of the run"
            assert script == "".join(f"{command}\n" for command in done["commands"])
            assert done["changed"] == bool(script)
            printed.append(script.replace(self.modules.prefix, PREFIX))
            self._type(script.replace(self.modules.prefix, self.shell.prefix))
        return printed

    def _type(self, script: str) -> None:
        """Run the commands in a shell on the host."""
        command = ["nsenter", f"--net=/run/netns/{self.shell.host}", "bash", "-e", "-s"]
        done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{done.stderr}\n{script}"
        assert not done.stderr, f"{done.stderr}\n{script}"

    def differences(self) -> list[str]:
        """The differences between the two worlds."""
        modules, shell = (lambda w=world: self._state(w) for world in self.worlds)
        return differences_at_last(modules, shell)

    def _state(self, world: World) -> State:
        found = states_of((n for n in world.namespaces() if n != world.name("switch")), MACS)
        return {n: [line.replace(world.prefix, PREFIX) for line in x] for n, x in _named_alike(found, world).items()}


def _named_alike(state: State, world: World) -> State:
    return {netns.replace(world.prefix, PREFIX): lines for netns, lines in state.items()}


# Without the search for the smallest example, which takes minutes: PHASES=shrink for that.
PHASES = [Phase.explicit, Phase.generate, *([Phase.shrink] if os.environ.get("PHASES") == "shrink" else [])]


@settings(
    max_examples=TOPOLOGIES,
    # The same ones every time, so that a change is judged by itself; TOPOLOGIES=100 looks further, at random.
    derandomize="TOPOLOGIES" not in os.environ,
    phases=PHASES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    first=topologies(),
    damages=st.lists(st.sampled_from(DAMAGES), max_size=2, unique=True),
    second=topologies(),
    removed=st.sampled_from(["first", "second"]),
)
def test_the_printed_steps_make_what_the_modules_make(
    first: dict[str, Parameters], damages: list[str], second: dict[str, Parameters], removed: str
) -> None:
    event(f"cluster: {first.get('clusterip', {}).get('distribution')}")
    with Twins() as twins:
        assert not twins.differences()
        built = twins.run(first, "present")
        assert not twins.differences(), built
        assert not any(twins.run(first, "present")), "nothing is left to do"
        for damage in damages:
            twins.damage(damage)
        assert not twins.differences(), "damaged alike"
        repaired = twins.run(first, "present")
        assert not twins.differences(), repaired
        changed = twins.run(second, "present")
        assert not twins.differences(), changed
        gone = twins.run(first if removed == "first" else second, "absent")
        assert not twins.differences(), gone
