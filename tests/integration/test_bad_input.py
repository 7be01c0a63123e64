# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bad input is refused before anything is changed, with a message that names parameter, value and remedy.

For what instances run from, and where, see test_bad_instances.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .world import COLLECTIONS, MODULE_RUNNER, World, call, sh

MAC = "02:00:00:00:01:01"


def dump(world: World) -> str:
    """What there is in all namespaces of a world."""
    look = "ip -br link; ip -br addr; ip route; nft list ruleset; sysctl -ar '^net.ipv4.conf'"
    look += "; bridge fdb | grep -E 'permanent|static'"
    told = [sh(look, name, check=False) for name in world.namespaces()]
    return "\n".join([*world.namespaces(), *told])


# ansible-core 2.19 itself ends with a traceback, before a module has its arguments, where a dictionary inside of a list
# of dictionaries is a number, where an integer is infinite, and where text has half of a surrogate pair.
CORE = "module = AnsibleModule("
CORE_ERRORS = ("TypeError: ", "OverflowError: ", "UnicodeEncodeError: ")


class Server:
    """Runs modules in one process that lives in a namespace."""

    def __init__(self, netns: str):
        self.process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{netns}", sys.executable, str(MODULE_RUNNER.with_name("one_process.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": COLLECTIONS},
        )

    def call(self, module: str, args: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """A module's result, failed or not. A traceback is an error."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([module, args]), file=self.process.stdin, flush=True)
        output, trace = json.loads(self.process.stdout.readline())
        if CORE in trace.rpartition("/plugins/")[2]:
            assert trace.rstrip().rpartition("\n")[2].startswith(CORE_ERRORS), trace
            return {"failed": True, "msg": "ansible-core refused it", "core": True}
        assert not trace, f"{module} {args!r}\n{trace}"
        return json.loads(output)

    def stop(self) -> None:
        """End it."""
        self.process.communicate(timeout=10)


@pytest.fixture(scope="module")
def scratch() -> t.Iterator[World]:
    """A world with a host with a NIC, for modules that change nothing in it."""
    made = World(f"n{os.getpid() % 10000}")
    try:
        made.netns("host")
        sh("ip tuntap add nic0 mode tap && ip addr add 192.0.2.2/24 dev nic0 && ip link set nic0 up", made.host)
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def server(scratch: World) -> t.Iterator[Server]:
    """Modules on that host."""
    made = Server(scratch.host)
    yield made
    made.stop()


def veth(**changes: t.Any) -> dict[str, t.Any]:
    return {"veths": [{"name": "ve1", "peer": {"name": "eth0"}, **changes}]}


def bridge(**changes: t.Any) -> dict[str, t.Any]:
    return {"bridges": [{"name": "br1", **changes}]}


def cluster(**changes: t.Any) -> dict[str, t.Any]:
    nodes = [{"netns": "vpn1", "mac": MAC, "local_nodes": [1, 2]}]
    return {
        "name": "vpn",
        "address": "198.51.100.10",
        "interface": "nic0",
        "bridge": "br1",
        "total_nodes": 4,
        "nodes": nodes,
        **changes,
    }


def node(netns: str, last: int, *buckets: int) -> dict[str, t.Any]:
    return {"netns": netns, "mac": f"02:00:00:00:01:{last:02x}", "local_nodes": list(buckets)}


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "args", "parameter", "value", "remedy"),
    [
        ("netns", {"namespaces": [{"name": "a/b"}]}, "namespaces[0].name", "a/b", "no slash"),
        ("netns", {"namespaces": [{"name": "a"}, {"name": "a"}]}, "namespaces.name", "a", "named twice"),
        (
            "netns",
            {"namespaces": [{"name": "a", "sysctls": {"kernel.x": 1}}]},
            "namespaces[0].sysctls",
            "kernel.x",
            "net.*",
        ),
        (
            "netns",
            {"namespaces": [{"name": "a", "sysctls": {"net.\0": 1}}]},
            "namespaces[0].sysctls",
            "net.\0",
            "control characters",
        ),
        (
            "netns",
            {"namespaces": [{"name": "a", "sysctls": {"net.x": "é"}}]},
            "namespaces[0].sysctls.net.x",
            "é",
            "ASCII",
        ),
        ("veth", veth(name="sixteen-bytes-xx"), "veths[0].name", "sixteen-bytes-xx", "1 to 15 bytes"),
        ("veth", veth(name="ä" * 8), "veths[0].name", "ä" * 8, "1 to 15 bytes"),
        ("veth", veth(name="ve/1"), "veths[0].name", "ve/1", "slash"),
        ("veth", veth(name="eth0"), "veths.name", "eth0", "named twice"),
        ("veth", veth(mac="03:00:00:00:00:01"), "veths[0].mac", "03:00:00:00:00:01", "unicast"),
        ("veth", veth(mtu=10**30), "veths[0].mtu", 10**30, "between 68 and"),
        ("veth", veth(addresses=["10.0.0.1/40"]), "veths[0].addresses", "10.0.0.1/40", "write an address as"),
        ("bridge", bridge(name="br/1"), "bridges[0].name", "br/1", "slash"),
        ("bridge", bridge(ports=["a", "a"]), "bridges[0].ports", "a", "named twice"),
        ("bridge", bridge(fdb=[{"mac": MAC, "port": "b"}]), "bridges[0].fdb[0].port", "b", "must be one of"),
        ("clusterip", cluster(name="A"), "name", "A", "lower case letter"),
        ("clusterip", cluster(clustermac=MAC), "clustermac", MAC, "multicast"),
        ("clusterip", cluster(nodes=[node("vpn1", 1, 0)]), "nodes[0].local_nodes", 0, "between 1 and 4"),
        ("clusterip", cluster(nodes=[node("vpn1", 1, 5)]), "nodes[0].local_nodes", 5, "between 1 and 4"),
        ("clusterip", cluster(nodes=[node("a", 1, 1), node("b", 2, 1)]), "nodes[1].local_nodes", 1, "owned by a"),
        ("clusterip", cluster(nodes=[node("a", 1, 1), node("a", 2, 2)]), "nodes.netns", "a", "named twice"),
        ("clusterip", cluster(nodes=[node("a", 1, 1), node("b", 1, 2)]), "nodes.mac", MAC, "named twice"),
        ("clusterip", cluster(interface="a" * 16), "interface", "a" * 16, "1 to 15 bytes"),
        ("clusterip", cluster(total_nodes=0), "total_nodes", 0, "between 1 and"),
        ("openvpn_instance", {"instances": [{"name": "a b"}]}, "instances[0].name", "a b", "letters"),
        ("openvpn_instance", {"instances": [{"name": "a\n"}]}, "instances[0].name", "a\n", "letters"),
        ("openvpn_instance", {"instances": [{"name": "a"}] * 2}, "instances[].name", "a", "named twice"),
        ("openvpn_instance", {"instances": [{"name": "a", "netns": "../1"}]}, "instances[0].netns", "../1", "slash"),
        ("openvpn_instance", {"instances": [{"name": "a", "cpus": [-1]}]}, "instances[0].cpus", [-1], "starting with 0"),
        ("openvpn_instance", {"instances": [{"name": "a", "user": "a b"}]}, "instances[0].user", "a b", "name of a user or group"),
        (
            "openvpn_instance",
            {"instances": [{"name": "a", "config": "/a\n"}]},
            "instances[0].config",
            "/a\n",
            "control",
        ),
        ("openvpn_instance", {"instances": [], "timeout": 0}, "timeout", 0, "number of seconds"),
        ("openvpn_instance", {"instances": [], "timeout": 10**40}, "timeout", 10**40, "number of seconds"),
    ],
)
def test_parameters(
    scratch: World, server: Server, module: str, args: dict[str, t.Any], parameter: str, value: t.Any, remedy: str
) -> None:
    before = dump(scratch)
    for check in (False, True):
        result = server.call(module, {**args, "_ansible_check_mode": check})
        assert result["failed"]
        assert result["msg"].startswith(f"{parameter}: ")
        assert f"{value!r}: " in result["msg"]
        assert remedy in result["msg"]
    assert dump(scratch) == before


# --- the host ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def host(world: World) -> World:
    """A host with a bridge, a tap and a veth; the veth's other end is in the namespace one."""
    world.netns("host")
    world.netns("one")
    sh(
        "ip link add br1 type bridge && ip tuntap add nic0 mode tap && ip link set nic0 up && ip link set br1 up"
        f" && ip link add ve1 type veth peer name eth0 netns {world.name('one')}",
        world.host,
    )
    return world


def test_a_namespace_that_does_not_exist(host: World) -> None:
    gone = host.name("gone")
    before = dump(host)
    tasks: list[tuple[str, dict[str, t.Any]]] = [
        ("veth", veth(name="ve2", peer={"name": "eth0", "netns": gone})),
        ("bridge", bridge(name="br2", netns=gone)),
        ("clusterip", cluster(nodes=[node(gone, 1, 1)])),
        ("openvpn_instance", {"instances": [{"name": host.name("i"), "netns": gone}]}),
    ]
    for module, args in tasks:
        result = call(host, module, args)
        assert result["failed"], module
        assert "netns" in result["msg"], module
        assert repr(gone) in result["msg"], module
        assert "create it first" in result["msg"], module
        warned = call(host, module, {**args, "_ansible_check_mode": True})
        assert not warned.get("failed"), warned
        assert gone in str(warned["warnings"]), module
    assert dump(host) == before


def test_a_link_of_another_kind_under_our_name(host: World) -> None:
    before = dump(host)
    for module, args, name, kind in (
        ("veth", veth(name="br1"), "br1", "a bridge"),
        ("veth", veth(name="ve2", peer={"name": "nic0"}), "nic0", "a tun"),
        ("bridge", bridge(name="ve1"), "ve1", "a veth"),
        ("bridge", bridge(name="lo"), "lo", "a loopback"),
    ):
        for state in ("present", "absent"):
            result = call(host, module, {**args, "state": state})
            assert result["failed"]
            assert f"{name!r}: this name belongs to {kind}" in result["msg"]
            assert "choose another" in result["msg"]
    assert dump(host) == before


def test_a_sysctl_that_cannot_be_read(host: World) -> None:
    before = dump(host)
    for key in ("net.ipv4", "net.ipv4.route.flush"):  # a directory, and one that can only be written
        args = {"namespaces": [{"name": host.name("one"), "sysctls": {key: 1}}]}
        result = call(host, "netns", {**args, "_ansible_check_mode": True})
        assert key.replace(".", "/") in result["msg"] if result.get("failed") else result["changed"]
    assert dump(host) == before


TASKS: list[tuple[str, dict[str, t.Any]]] = [
    ("netns", {"namespaces": [{"name": "bad-input-test-never-made"}]}),
    ("veth", veth(name="ve9", peer={"name": "ve8"})),
    ("bridge", bridge(name="br9")),
    ("clusterip", cluster(nodes=[])),
]


def test_not_root(host: World) -> None:
    before = dump(host)
    instances = {"instances": [{"name": "bad-input-test"}]}
    for module, args in [
        *TASKS,
        ("openvpn_instance", instances),
        ("openvpn_instance_info", {}),
        ("openvpn_config", {"configurations": [{"name": "bad-input-test", "content": ""}]}),
        ("clusterip_info", {}),
    ]:
        # a user namespace without a mapping: the files are ours, and we are nobody
        result = call(host, module, args, before=["unshare", "--user"])
        assert result["failed"], module
        assert "must run as root: use 'become: true'" in result["msg"], module
    assert dump(host) == before


def test_without_pyroute2(host: World, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pyroute2'] = None\n")
    path = f"{tmp_path}:{COLLECTIONS}"
    before = dump(host)
    for module, args in TASKS:
        result = call(host, module, args, PYTHONPATH=path)
        assert result["failed"]
        assert "python3-pyroute2" in result["msg"]
        result = call(host, module, {**args, "_ansible_check_mode": True}, PYTHONPATH=path)
        assert not result.get("failed"), result["msg"]
        assert result["changed"]
        assert "pyroute2" in str(result["warnings"])
    assert dump(host) == before


def test_with_a_broken_pyroute2(host: World, tmp_path: Path) -> None:
    """Found, but its import fails: runs that change something are refused before the first change."""
    (tmp_path / "pyroute2").mkdir()
    (tmp_path / "pyroute2/__init__.py").write_text("raise ImportError('simulated: broken')\n")
    path = f"{tmp_path}:{COLLECTIONS}"
    before = dump(host)
    for module, args in TASKS:
        result = call(host, module, args, PYTHONPATH=path)
        assert result["failed"]
        assert (
            "cannot import pyroute2 (simulated: broken): install the Debian package python3-pyroute2" in result["msg"]
        )
    assert dump(host) == before


def test_without_nft(host: World, tmp_path: Path) -> None:
    before = dump(host)
    args = cluster(nodes=[node(host.name("one"), 1, 1)])
    result = call(host, "clusterip", args, before=["env", f"PATH={tmp_path}"])
    assert result["failed"]
    assert "'nft' is missing: install the package nftables" in result["msg"]
    result = call(host, "clusterip", {**args, "_ansible_check_mode": True}, before=["env", f"PATH={tmp_path}"])
    assert not result.get("failed"), result["msg"]
    assert result["changed"]
    assert "'nft' is missing" in str(result["warnings"])
    assert dump(host) == before


# --- anything ---------------------------------------------------------------------------------------------------------

MODULES = sorted(
    path.stem for path in Path(COLLECTIONS, "ansible_collections/clustered/openvpn/plugins/modules").glob("*.py")
)
EXAMPLES = int(os.environ.get("EXAMPLES", "300"))  # of each module; 2000 looks further
ODD = [
    *(
        "",
        " ",
        "\n",
        "a\nb",
        "\0",
        "\ud800",
        "é" * 8,
        "💥",
        "a" * 300,
        "-rf",
        "..",
        "/",
        "/etc/passwd",
        "$(id)",
        "%n",
        "{}",
    ),
    *(
        "default",
        "all",
        "lo",
        "eth0",
        "vpn1",
        "one",
        "0",
        "-1",
        "1e9",
        "0x10",
        "1194",
        "99999999999999999999",
        "٣",
        "None",
    ),
    *(
        "192.0.2.1",
        "192.0.2.1/24",
        "192.0.2.0/33",
        "::",
        "fe80::1%eth0",
        "::ffff:1.2.3.4/96",
        "0.0.0.0/0",
        "1.2.3.4/255.0.0.0",
    ),
    *(MAC, "03:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", "net.ipv4.ip_forward", "net..x", "net/../../x", "net.\0", "net.é"),
]
TEXT = st.one_of(st.sampled_from(ODD), st.text(max_size=20))
NUMBERS = st.one_of(st.integers(-2, 70000), st.sampled_from([2**31, 2**32, 2**63, 2**64, 10**40, -(10**40)]))
GOOD = {
    "netns": {"namespaces": [{"name": "bad-input-test-never-made"}]},
    "veth": veth(
        peer={"name": "eth0", "addresses": ["10.0.0.1/24"], "routes": [{"dst": "default", "via": "10.0.0.2"}]}
    ),
    "bridge": bridge(addresses=["10.0.0.1/24"], ports=["ve1"], fdb=[{"mac": MAC, "port": "ve1"}]),
    "clusterip": cluster(nodes=[node("a", 1, 1, 2), node("b", 2, 3, 4)], services=[{"protocol": "udp", "port": 1194}]),
    "bridge_uplink": {"bridge": "br-lan", "interface": "nic0"},
    "cluster_service": {"name": "bad-input-test", "units": ["openvpn-server@bad-input-test"]},
    "tunnel_bundle": {
        "name": "bad-input",
        "networks": ["10.99.0.128/25"],
        "tunnels": [
            {
                "number": 1,
                "device": "bad-input-1",
                "port": 1195,
                "mark": 1195,
                "addresses": [{"local": "10.99.0.2", "peer": "10.99.0.130"}],
            }
        ],
    },
    "openvpn_instance": {"instances": [{"name": "bad-input-test", "config": "/etc/passwd", "user": "nobody"}]},
}
JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.floats(), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)


def arguments(options: t.Mapping[str, t.Any]) -> st.SearchStrategy[dict[str, t.Any]]:
    """Arguments for documented options: mostly what is asked for, with something else in some places."""
    required = {name: value_of(option) for name, option in options.items() if option.get("required")}
    others = {name: value_of(option) for name, option in options.items() if not option.get("required")}
    return st.fixed_dictionaries(required, optional=others)


def around(module: str, options: t.Mapping[str, t.Any]) -> st.SearchStrategy[dict[str, t.Any]]:
    """Arguments that are good but for one or two, and such as have nothing to do with good ones."""
    few = st.lists(st.sampled_from(sorted(options)), max_size=2, unique=True)
    changes = few.flatmap(lambda names: st.fixed_dictionaries({name: value_of(options[name]) for name in names}))
    return st.one_of(arguments(options), changes.map(lambda changed: {**GOOD.get(module, {}), **changed}))


def value_of(option: t.Mapping[str, t.Any]) -> st.SearchStrategy[t.Any]:
    right = typed(option)
    return st.integers(0, 19).flatmap(lambda chance: JSON_VALUES if chance == 7 else right)


def typed(option: t.Mapping[str, t.Any]) -> st.SearchStrategy[t.Any]:
    kind = option.get("type", "str")
    if "choices" in option:
        return st.sampled_from(option["choices"])
    if kind == "list":
        return st.lists(value_of({**option, "type": option["elements"]}), max_size=4)
    if kind == "dict":
        return (
            arguments(option["suboptions"])
            if "suboptions" in option
            else st.dictionaries(TEXT, JSON_VALUES, max_size=3)
        )
    return {"int": NUMBERS, "float": st.floats(), "bool": st.booleans()}.get(kind, TEXT)


@pytest.mark.parametrize("module", MODULES)
def test_whatever_is_given_the_answer_is_a_sentence(scratch: World, server: Server, module: str) -> None:
    path = Path(COLLECTIONS, f"ansible_collections/clustered/openvpn/plugins/modules/{module}.py")
    documented = yaml.safe_load(path.read_text().split('DOCUMENTATION = r"""')[1].split('"""')[0])
    before = dump(scratch)
    tried = {"refused": 0, "taken": 0, "core": 0}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(around(module, documented["options"]))
    def one(args: dict[str, t.Any]) -> None:
        result = server.call(module, {**args, "_ansible_check_mode": True, "_ansible_diff": True})
        tried["core" if "core" in result else "refused" if result.get("failed") else "taken"] += 1
        if result.get("failed"):
            assert len(result["msg"]) > 10
            assert "Traceback" not in result["msg"]
        else:
            assert "changed" in result

    one()
    print(f"{module}: {tried}")
    assert tried["refused"]
    assert tried["taken"]
    assert dump(scratch) == before
