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

from ansible_collections.clustered.openvpn.plugins.module_utils._boot import install, units
from ansible_collections.clustered.openvpn.plugins.module_utils._boot import program as _program
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import parameters, reconcile
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.layout import layout
from ansible_collections.clustered.openvpn.plugins.module_utils._topology import bridges
from ansible_collections.clustered.openvpn.plugins.module_utils._topology import reconcile as _reconcile
from ansible_collections.clustered.openvpn.plugins.modules import bridge, clusterip

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


def test_a_boot_wants_what_the_modules_were_given():
    manifest = json.loads(json.dumps(layout(WANTED)))
    parts = _program.parts_of(manifest, True)
    assert [plan for plan, _wanted in parts] == [
        *(
            _reconcile.namespaces,
            _reconcile.veths,
            _reconcile.bridges,
            reconcile.clusterip,
            reconcile.clusterip,
        )
    ]
    assert parts[2][1] == bridges.bridges_from(validated(bridge, bridges=manifest["bridges"])["bridges"])
    for (_plan, cluster), one in zip(parts[3:], manifest["addresses"]):
        given = {**manifest["cluster"], **one, "name": "vpn", "nodes": manifest["nodes"]}
        assert cluster == parameters.cluster_from(validated(clusterip, **given))
    assert [c.address for _plan, c in parts[3:]] == ["192.0.2.10", "2001:db8::10"]
    assert [plan for plan, _wanted in _program.parts_of(manifest, False)] == [plan for plan, _w in parts[::-1]]


def test_where_somebody_else_decides_a_boot_claims_nothing():
    manifest = layout({**WANTED, "claims": "keep"})
    assert {c.claims for _plan, c in _program.parts_of(manifest, True)[3:]} == {"keep"}


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
    for verb in ("start", "stop", "check", "watch", "claims", "release"):
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


@pytest.mark.parametrize("text", ['{"name": ', "[]", "{}", '{"namespaces": 7}'])
def test_a_damaged_desired_state_is_named_and_not_tried_again(text, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_program, "MANIFESTS", str(tmp_path))
    (tmp_path / "vpn.json").write_text(text)
    assert _program.main(["start", "vpn"]) == 78
    assert f"clustered-openvpn: vpn: {tmp_path}/vpn.json is damaged (" in capsys.readouterr().err
    assert "RestartPreventExitStatus=78\n" in units.UNIT_TEXT


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
