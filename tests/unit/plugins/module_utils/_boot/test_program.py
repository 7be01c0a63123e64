# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.clustered.openvpn.plugins.module_utils._boot import install, units
from ansible_collections.clustered.openvpn.plugins.module_utils._boot import program as _program
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import cluster as _cluster
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import reconcile
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
        assert cluster == _cluster.cluster_from(validated(clusterip, **given))
    assert [c.address for _plan, c in parts[3:]] == ["192.0.2.10", "2001:db8::10"]
    assert [plan for plan, _wanted in _program.parts_of(manifest, False)] == [plan for plan, _w in parts[::-1]]


def test_where_somebody_else_decides_a_boot_claims_nothing():
    manifest = layout({**WANTED, "claims": "keep"})
    assert {c.claims for _plan, c in _program.parts_of(manifest, True)[3:]} == {"keep"}


def test_the_program_stands_alone(tmp_path):
    """Its files, and nothing of Ansible: it says how it is used, and what is wrong."""
    files = install.sources()
    for path, file in files.items():
        target = tmp_path / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(file.text.replace(install.LIBRARY, str(tmp_path / install.LIBRARY.lstrip("/"))))
    program = [sys.executable, "-I", "-c", (tmp_path / install.PROGRAM.lstrip("/")).read_text()]
    block = "import sys; sys.modules['ansible'] = None\n"
    program[3] = block + program[3]
    helped = subprocess.run([*program, "--help"], capture_output=True, text=True, check=True)
    assert "start" in helped.stdout
    wrong = subprocess.run([*program, "check", "No"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, "NAME: 'No': a cluster's name is" in wrong.stderr) == (1, True)
    assert install.PROGRAM in files
    assert [path for path in files if path.endswith("_kernel/changes.py")], "imported only for a change"
    assert not [path for path in files if path.endswith("_module.py")]


@pytest.mark.parametrize("text", ['{"name": ', "[]", "{}", '{"namespaces": 7}'])
def test_a_damaged_desired_state_is_named_and_not_tried_again(text, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_program, "MANIFESTS", str(tmp_path))
    (tmp_path / "vpn.json").write_text(text)
    assert _program.main(["start", "vpn"]) == 78
    assert f"clustered-openvpn: vpn: {tmp_path}/vpn.json is damaged (" in capsys.readouterr().err
    assert "RestartPreventExitStatus=78\n" in units.UNIT_TEXT


@pytest.mark.parametrize("there", [{}, {"/a": install.File("old")}, {"/a": install.File("x", 0o600)}])
def test_files_that_differ_are_written_and_others_removed(there):
    wanted = {"/a": install.File("x"), "/l": install.File(target="/a")}
    write, remove = install.differing(wanted, {**there, "/gone": install.File("y")})
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
