# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.clustered.openvpn.plugins.filter.cluster import cluster_layout
from ansible_collections.clustered.openvpn.plugins.filter.state import host_links
from ansible_collections.clustered.openvpn.plugins.module_utils._boot import install, units
from ansible_collections.clustered.openvpn.plugins.module_utils._boot import program as _program
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import parameters, reconcile
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.steps import Planned, step
from ansible_collections.clustered.openvpn.plugins.module_utils._managers import reconcile as _managers
from ansible_collections.clustered.openvpn.plugins.module_utils._ring import vrrp_filter
from ansible_collections.clustered.openvpn.plugins.module_utils._state import files, schema
from ansible_collections.clustered.openvpn.plugins.module_utils._topology import bridges, namespaces, veths
from ansible_collections.clustered.openvpn.plugins.module_utils._topology import reconcile as _reconcile
from ansible_collections.clustered.openvpn.plugins.modules import bridge, clusterip, netns, veth

WANTED = {
    "name": "vpn",
    "address": "192.0.2.10",
    "ipv6_address": "2001:db8::10",
    "ipv6_internal_network": "fd00::/64",
    "interface": "nic0",
    "members": [],
    "size": 2,
    "instances": [{"name": "udp", "protocol": "udp", "port": 1194, "pool": "10.8.0.0/16"}],
    "slice_prefix": 24,
    "internal_network": "10.255.0.0/22",
    "total_nodes": 256,
    "hash_init": 7,
    "claims": "exact",
}


def validated(module, **given):
    result = ArgumentSpecValidator(module.ARGUMENT_SPEC).validate(given)
    assert not result.error_messages
    return result.validated_parameters


def test_a_boot_applies_what_the_modules_were_given():
    given = cluster_layout(WANTED)
    state = files.state_of(given)
    parts = _program.parts_of(state, True)
    assert [plan for plan, _part in parts] == [
        *(
            _managers.network_managers,
            _reconcile.namespaces,
            _reconcile.veths,
            _reconcile.bridges,
            reconcile.clusterip,
            reconcile.clusterip,
        )
    ]
    assert parts[0][1].interfaces == tuple(host_links(given))
    assert parts[1][1] == namespaces.namespaces_from(validated(netns, namespaces=given["namespaces"])["namespaces"])
    assert parts[2][1] == veths.veths_from(validated(veth, veths=given["veths"])["veths"])
    assert parts[3][1] == bridges.bridges_from(validated(bridge, bridges=given["bridges"])["bridges"])
    for (_plan, cluster), one in zip(parts[4:], given["addresses"]):
        params = {**given["cluster"], **one, "name": "vpn", "nodes": given["nodes"]}
        assert cluster == parameters.cluster_from(validated(clusterip, **params))
    assert [c.address for _plan, c in parts[4:]] == ["192.0.2.10", "2001:db8::10"]
    assert [plan for plan, _part in _program.parts_of(state, False)] == [plan for plan, _p in parts[:0:-1]]


def test_where_keepalived_decides_a_boot_claims_nothing():
    state = files.state_of(cluster_layout({**WANTED, "claims": "keep"}))
    assert {c.claims for _plan, c in _program.parts_of(state, True)[4:]} == {"keep"}


@pytest.mark.parametrize("failover", [True, False])
def test_the_vrrp_filter_of_many_hosts_is_a_part_of_the_desired_state(failover):
    given = cluster_layout({**WANTED, "claims": "keep", "shared": True})
    if failover:
        given["failover"] = {
            "placeholders": "127.64.1.0/24",
            "slots": 64,
            "linger": 0.1,
            "command": [],
            "interval": 0.5,
            "timeout": 1,
            "fall": 2,
            "rise": 2,
        }
    plan, wanted = _program.parts_of(files.state_of(given), True)[4]
    assert plan is vrrp_filter.vrrp_filter
    assert wanted.table == "clustered_openvpn_vpn.vrrp"
    assert wanted.path == ("/etc/clustered-openvpn/vpn.ring/vrrp.nft" if failover else None)


def test_texts_of_the_state_name_its_links():
    state = files.state_of(cluster_layout(WANTED))
    assert {"br-vpn", "ve-vpn1", "vpn1", "nic0", "192.0.2.10"} <= set(_program._texts(schema.plain(state)))


@pytest.mark.parametrize("steps", [[], [step("link_up", dev="eth0")]])
def test_a_prerequisite_that_no_step_creates_is_an_error_of_a_check(steps, monkeypatch):
    planners = [lambda *_args: Planned(steps), lambda *_args: Planned([], ["nic0: no such interface"])]
    monkeypatch.setattr(_program, "parts_of", lambda *_args: [(plan, None) for plan in planners])
    check = _program.converge(None, None, True, dry=True)
    if steps:
        assert list(check) == ["ip link set dev eth0 up"]
    else:
        with pytest.raises(_program.RestoreError, match="nic0: no such interface"):
            list(check)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The program and its library in a folder, as a process installs them that has imported nothing else."""
    root = tmp_path_factory.mktemp("installed")
    script = f"""
import json, sys
from {install.__name__} import sources
print(json.dumps({{path: file.text for path, file in sources().items()}}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for path, text in json.loads(done.stdout).items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace(install.LIBRARY, str(root / install.LIBRARY.lstrip("/"))))
    return root


def run(root, *args):
    """The installed program, where Ansible cannot be imported."""
    program = "import sys; sys.modules['ansible'] = None\n" + (root / install.PROGRAM.lstrip("/")).read_text()
    return subprocess.run([sys.executable, "-I", "-c", program, *args], capture_output=True, text=True, check=False)


def test_the_program_runs_without_ansible(installed):
    helped = run(installed, "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "Apply, check or remove the desired state" in helped.stdout
    for verb in ("start", "stop", "check", "keep", "watch", "claims", "release"):
        assert f"{verb}: " in helped.stdout
    wrong = run(installed, "check", "No")
    assert (wrong.returncode, "NAME: 'No': a cluster's name is" in wrong.stderr) == (1, True)


def imports(path, library):
    """The files of the library that a file imports anywhere, also inside of functions."""
    package = path.relative_to(library).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = library.joinpath(*package[: len(package) + 1 - node.level], *(node.module or "").split("."))
            found |= {base.with_suffix(".py"), *(base / f"{alias.name}.py" for alias in node.names)}
    return found


def test_the_library_has_all_files_that_the_program_imports(installed):
    """Also those of imports inside of functions. The only other files are those that install it."""
    library = installed / install.LIBRARY.lstrip("/")
    source = Path(*install.__name__.split(".")).with_suffix(".py")
    own = Path(install.__file__.removesuffix(str(source)))
    needed, left = set(), {own / source}
    while left:
        path = left.pop()
        needed.add(path)
        left |= {one for one in imports(path, own) if one.is_file()} - needed
    assert {path.relative_to(library) for path in library.rglob("*.py")} == {p.relative_to(own) for p in needed}


def test_a_library_without_a_file_is_noticed(installed, tmp_path):
    shutil.copytree(installed, tmp_path / "broken")
    for path in (tmp_path / "broken").rglob("*"):
        if path.is_file():
            path.write_text(path.read_text().replace(str(installed), str(tmp_path / "broken")))
    next((tmp_path / "broken").rglob("ruleset.py")).unlink()
    assert "ModuleNotFoundError" in run(tmp_path / "broken", "--help").stderr


def test_the_program_is_written_after_its_library(monkeypatch):
    written = []
    monkeypatch.setattr(install.os, "makedirs", lambda *_args, **_options: None)
    monkeypatch.setattr(install._files, "replace", lambda path, *_args: written.append(path))
    install.put(install.shared())
    assert written[-1] == install.PROGRAM
    assert len(written) == len(set(written)) > 50


GOOD = cluster_layout(WANTED)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"name": ', "line 1, column 10: no valid JSON: Expecting value"),
        ("[]", "it is not an object"),
        ("{}", "name: missing"),
        ('{"namespaces": 7}', "name: missing"),
        (json.dumps({**GOOD, "servers": None}), "servers: null is not a list"),
        (json.dumps({**GOOD, "nodes": [*GOOD["nodes"], GOOD["nodes"][0]]}), "nodes[2].local_nodes: 1: already owned"),
        ("[" * 100_000, "it is nested too deeply"),
    ],
)
def test_a_damaged_desired_state_is_named_and_not_tried_again(text, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_program, "MANIFESTS", str(tmp_path))
    (tmp_path / "vpn.json").write_text(text)
    assert _program.main(["start", "vpn"]) == 78
    error = capsys.readouterr().err
    assert error.startswith(f"clustered-openvpn: vpn: {tmp_path}/vpn.json is damaged ({reason}")
    assert error.endswith("): restore it from a backup, or remove it and run the role again\n")
    assert error.count("\n") == 1
    assert "RestartPreventExitStatus=78\n" in units.UNIT_TEXT


def test_a_desired_state_of_a_newer_release_is_not_tried(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_program, "MANIFESTS", str(tmp_path))
    (tmp_path / "vpn.json").write_text(json.dumps({**GOOD, "format": 2}))
    assert _program.main(["check", "vpn"]) == 78
    assert f"{tmp_path}/vpn.json was written by a newer release" in capsys.readouterr().err


def test_without_failover_there_is_nothing_to_follow(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_program, "MANIFESTS", str(tmp_path))
    (tmp_path / "vpn.json").write_text(json.dumps(GOOD))
    assert _program.main(["claims", "vpn"]) == 78
    assert "vpn.json has no failover settings; run the role clusterip_cluster" in capsys.readouterr().err


@pytest.mark.parametrize("there", [{}, {"/a": install.InstalledFile("old")}, {"/a": install.InstalledFile("x", 0o600)}])
def test_files_that_differ_are_written_and_others_removed(there):
    wanted = {"/a": install.InstalledFile("x"), "/l": install.InstalledFile(target="/a")}
    write, remove = install.differing(wanted, {**there, "/gone": install.InstalledFile("y")})
    assert (write, remove) == (wanted, ["/gone"])
    assert install.differing(wanted, wanted) == ({}, [])


def test_instances_are_tied_to_their_cluster():
    bonds = install.bonds("vpn", ["openvpn-server@vpn1-udp"])
    drop_in = bonds["/etc/systemd/system/openvpn-server@vpn1-udp.service.d/clustered-openvpn-member.conf"]
    assert "\nBindsTo=clustered-openvpn@vpn.service\nAfter=clustered-openvpn@vpn.service\n" in drop_in.text
    link = bonds["/etc/systemd/system/clustered-openvpn@vpn.service.wants/openvpn-server@vpn1-udp.service"]
    assert link.target == "/lib/systemd/system/openvpn-server@.service"


def test_the_unit_needs_no_mount_namespace():
    words = ("Protect", "Private", "ReadOnly", "ReadWrite", "Inaccessible", "Bind", "TemporaryFile", "Root", "Mount")
    need_none = ["ProtectClock=yes", "ProtectHostname=yes"]
    assert [x for x in units.UNIT_TEXT.splitlines() if x.startswith(words)] == need_none
