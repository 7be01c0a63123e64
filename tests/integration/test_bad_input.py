# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bad input is refused before anything is changed, with a message that names parameter, value and remedy."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import typing as t
from itertools import count
from pathlib import Path

import pytest
import yaml
from certificates import Authority
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .openvpn_lab import OpenVpnLab, make_pki
from .world import COLLECTIONS, MODULE_RUNNER, World, sh, within

_numbers = count()
MAC = "02:00:00:00:01:01"


def dump(world: World) -> str:
    """What there is in all namespaces of a world."""
    look = "ip -br link; ip -br addr; ip route; bridge fdb; nft list ruleset; sysctl -ar '^net.ipv4.conf'"
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
    """A world with an empty host, for modules that change nothing in it."""
    made = World(f"n{os.getpid() % 10000}")
    try:
        made.netns("host")
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def server(scratch: World) -> t.Iterator[Server]:
    """Modules on that host."""
    made = Server(scratch.host)
    yield made
    made.stop()


def call(
    world: World, module: str, args: t.Mapping[str, t.Any], *, before: t.Sequence[str] = (), **env: str
) -> dict[str, t.Any]:
    """A module's result on the host, failed or not. C(before): what its process is started by."""
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{world.host}", *before, sys.executable, str(MODULE_RUNNER), module],
        input=json.dumps(args),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": COLLECTIONS, **env},
    )
    assert done.stdout.startswith("\n{") or done.stdout.startswith("{"), done.stdout + done.stderr
    return json.loads(done.stdout)


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
        ("clusterip", cluster(name="A"), "name", "A", "small letter"),
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
        ("openvpn_instance", {"instances": [{"name": "a", "cpus": [-1]}]}, "instances[0].cpus", [-1], "from 0"),
        ("openvpn_instance", {"instances": [{"name": "a", "user": "a b"}]}, "instances[0].user", "a b", "account"),
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
        assert "make it first" in result["msg"], module
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
        ("clusterip_info", {}),
    ]:
        # a user namespace without a mapping: the files are ours, and we are nobody
        result = call(host, module, args, before=["unshare", "--user"])
        assert result["failed"], module
        assert "must run as root: use 'become: true'" in result["msg"], module
    assert dump(host) == before


def test_without_pyroute2(host: World, tmp_path: Path) -> None:
    (tmp_path / "pyroute2").mkdir()
    (tmp_path / "pyroute2/__init__.py").write_text("raise ImportError('simulated: not installed')\n")
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
SECONDS = 35.0 / len(MODULES)  # for all modules together, also on a slow machine
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
    return {"int": NUMBERS, "bool": st.booleans()}.get(kind, TEXT)


@pytest.mark.parametrize("module", MODULES)
def test_whatever_is_given_the_answer_is_a_sentence(scratch: World, server: Server, module: str) -> None:
    path = Path(COLLECTIONS, f"ansible_collections/clustered/openvpn/plugins/modules/{module}.py")
    documented = yaml.safe_load(path.read_text().split('DOCUMENTATION = r"""')[1].split('"""')[0])
    end = time.monotonic() + SECONDS
    before = dump(scratch)
    tried = {"refused": 0, "taken": 0, "core": 0}

    @settings(
        max_examples=400,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(around(module, documented["options"]))
    def one(args: dict[str, t.Any]) -> None:
        if time.monotonic() > end:
            return
        result = server.call(module, {**args, "_ansible_check_mode": True, "_ansible_diff": True})
        tried["core" if "core" in result else "refused" if result.get("failed") else "taken"] += 1
        if result.get("failed"):
            assert len(result["msg"]) > 10
            assert "Traceback" not in result["msg"]
        else:
            assert "changed" in result

    one()
    print(f"{module}: {tried}")
    assert tried["refused"] > 10
    assert tried["taken"] > 10
    assert dump(scratch) == before


# --- OpenVPN ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    make_pki(directory)
    return directory


@pytest.fixture
def lab(pki: Path) -> t.Iterator[OpenVpnLab]:
    made = OpenVpnLab(f"b{os.getpid() % 10000}x{next(_numbers)}", pki)
    try:
        yield made
    finally:
        made.remove()


def traces(lab: OpenVpnLab) -> list[Path]:
    """Files that the module keeps for instances."""
    places = [f"/{place}/clustered-openvpn" for place in ("run", "var/lib", "var/log")]
    return [path for place in places for path in Path(place).glob(f"*{lab.prefix}*")]


@pytest.mark.parametrize("program", ["openvpn", "ip", "setpriv"])
def test_without_a_program(lab: OpenVpnLab, program: str) -> None:
    places = [p for d in ("/usr/sbin", "/usr/bin", "/sbin", "/bin") if (p := Path(d, program)).exists()]
    hide = " && ".join(f"mount --bind /dev/null {place}" for place in sorted({p.resolve() for p in places}))
    before = ["unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh"]
    args = {"instances": [lab.server()], "supervisor": "process"}
    result = call(lab, "openvpn_instance", args, before=before)
    assert result["failed"]
    assert f"the program {program!r} is missing in" in result["msg"]
    assert "install the package" in result["msg"]
    result = call(lab, "openvpn_instance", {**args, "_ansible_check_mode": True}, before=before)
    assert not result.get("failed"), result["msg"]
    assert f"the program {program!r} is missing in" in str(result["warnings"])
    assert not traces(lab)


CA, OTHER = Authority(), Authority("other")


def write(lab: OpenVpnLab, **files: bytes) -> None:
    """Files of a server that are readable by it; C(_) in a name is a dot."""
    for name, data in files.items():
        (lab.directory / name.replace("_", ".")).write_bytes(data)


def usable(lab: OpenVpnLab) -> None:
    """What works."""
    cert, key = CA.issue("server", "server")
    write(lab, ca_crt=CA.pem, server_crt=cert, server_key=key, crl_pem=CA.revocations())


BAD: dict[str, tuple[t.Callable[[], dict[str, bytes]], str, str]] = {
    "expired": (
        lambda: dict(zip(("server_crt", "server_key"), CA.issue("x", until=0, since=-5))),
        "server.crt",
        "expired on",
    ),
    "another key": (lambda: {"server_key": CA.issue("x")[1]}, "server.key", "does not belong to the certificate"),
    "another CA": (
        lambda: dict(zip(("server_crt", "server_key"), OTHER.issue("x"))),
        "server.crt",
        "not signed by the CA",
    ),
    "an expired list": (lambda: {"crl_pem": CA.revocations(since=-5, until=-1)}, "crl.pem", "expired on"),
    "a list of another CA": (lambda: {"crl_pem": OTHER.revocations()}, "crl.pem", "not a list of the CA"),
    "no list": (lambda: {"crl_pem": b"nothing"}, "crl.pem", "holds no revocation list"),
}


@pytest.mark.parametrize("case", BAD)
def test_certificates_and_lists_that_would_serve_nobody(lab: OpenVpnLab, case: str) -> None:
    make, file, sentence = BAD[case]
    usable(lab)
    server, other = lab.server(extra="crl-verify crl.pem\n"), lab.server("s2", port=1195)
    write(lab, **make())

    result = lab.ensure(server, check=True)
    assert not result.get("failed"), result["msg"]
    assert file in str(result["warnings"])
    assert sentence in str(result["warnings"])
    result = lab.ensure(server, other)
    assert result["failed"]
    assert not result["changed"]
    assert result["commands"] == []
    assert f"{server['name']}: " in result["msg"]
    assert f"{lab.directory}/{file}" in result["msg"]
    assert sentence in result["msg"]
    assert "Traceback" not in result["msg"]
    assert "PRIVATE KEY" not in json.dumps(result)
    assert not traces(lab), "not even the good one was started"

    usable(lab)
    assert not (first := lab.ensure(server)).get("failed"), first["msg"]
    write(lab, **make())
    lab.write("s.conf", lab.server_config(extra="crl-verify crl.pem\nmax-clients 5\n"))
    result = lab.ensure(server)
    assert result["failed"]
    assert not result["changed"]
    assert sentence in result["msg"]
    assert result["instances"][0]["pid"] == first["instances"][0]["pid"]
    assert lab.info(server)[0]["ready"]


def test_a_list_that_expires_while_its_server_runs_is_warned_of(lab: OpenVpnLab) -> None:
    usable(lab)
    server = lab.server(extra="crl-verify crl.pem\n")
    assert not lab.ensure(server).get("failed")
    assert "refreshed" not in lab.ensure(server)["instances"][0]
    time.sleep(0.02)
    write(lab, crl_pem=CA.revocations(since=-5, until=-1))
    result = lab.ensure(server)
    assert not result.get("failed")
    assert not result["changed"]
    assert result["instances"][0]["refreshed"] == [f"{lab.directory}/crl.pem"]
    assert "crl.pem expired on" in str(result["warnings"])


def test_files_that_the_user_cannot_read(lab: OpenVpnLab) -> None:
    usable(lab)
    server = lab.server(extra="crl-verify crl.pem\nclient-config-dir ccd\n")
    (lab.directory / "ccd").mkdir()
    for name in ("crl.pem", "server.key", "ccd"):
        path = lab.directory / name
        path.chmod(0o600)
        os.chown(path, 0, 0)
        result = lab.ensure(server)
        assert result["failed"]
        assert f"the user nobody with the group nogroup cannot read {path}; change their owner or mode" in result["msg"]
        path.chmod(0o755)
    assert not traces(lab)
    assert not (result := lab.ensure(server)).get("failed"), result["msg"]


@pytest.mark.parametrize(("kind", "protocol"), [(socket.SOCK_DGRAM, "udp"), (socket.SOCK_STREAM, "tcp")])
def test_a_port_that_another_process_holds(lab: OpenVpnLab, kind: int, protocol: str) -> None:
    server = lab.server(port=1195, extra=f"proto {protocol}4\n")
    first = lab.ensure(server)
    assert not first.get("failed"), first["msg"]
    with within(lab.host), socket.socket(socket.AF_INET, kind) as somebody:
        somebody.bind(("0.0.0.0", 1194))
        if kind == socket.SOCK_STREAM:
            somebody.listen()
        lab.write("s.conf", lab.server_config(port=1194, extra=f"proto {protocol}4\n"))
        result = lab.ensure(server)
        assert result["failed"]
        assert not result["changed"]
        assert f"{protocol} port 1194 of 192.0.2.2 is held by process {os.getpid()}" in result["msg"]
        assert lab.host in result["msg"]
        assert "give another port" in result["msg"]
        assert result["instances"][0]["pid"] == first["instances"][0]["pid"]
        assert lab.info(server)[0]["ready"]
        assert "is held by process" in str(lab.ensure(server, check=True)["warnings"])
        assert lab.ensure(lab.instance("s3", Path(server["config"]).read_text(), lab.host))["failed"], "a first start"
    assert not (result := lab.ensure(server)).get("failed"), result["msg"]
    assert not lab.ensure(server)["changed"], "its own port is not another's"


def test_two_instances_with_one_port(lab: OpenVpnLab) -> None:
    result = lab.ensure(lab.server(), lab.server("s2"))
    assert result["failed"]
    assert f"udp port 1194 of 192.0.2.2 is the port of {lab.name('s')} too" in result["msg"]
    assert not traces(lab)


def test_what_another_task_should_have_made(lab: OpenVpnLab) -> None:
    server = {**lab.server(), "user": "no-such-user", "config": "/no/such.conf", "cpus": [8000]}
    result = lab.ensure(server)
    assert result["failed"]
    for part in (
        "user: 'no-such-user' does not exist on this host",
        "config: '/no/such.conf' does not exist",
        "cpus: [8000]: this host has the CPUs 0 to",
    ):
        assert part in result["msg"]
    assert result["instances"][0]["actions"] == []
    result = lab.ensure(server, supervisor="systemd")
    if not Path("/run/systemd/system").is_dir():
        assert "supervisor: 'systemd': systemd does not run on this host" in result["msg"]
