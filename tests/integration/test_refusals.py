# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roles refuse variables that would give a green run and no service, before their first change."""

from __future__ import annotations

import json
import os
import re
import subprocess
import typing as t
from pathlib import Path

import pytest

from .served import differences, states_of
from .site_host import ADDRESS, Site

HOOK = "/etc/openvpn/hook"


class Host(Site):
    """A host on which single roles are run."""

    account: t.ClassVar = {"user": "nobody", "group": "nogroup"}

    def role(self, role: str, *options: str, user: str = "", **variables: t.Any) -> tuple[list[str], str]:
        """Run a role: the names of its changed tasks, and its output."""
        directory = self.tmp / "role"
        directory.mkdir(exist_ok=True)
        play = [{"hosts": "all", "gather_facts": False, "roles": [f"clustered.openvpn.{role}"]}]
        (directory / "play.yml").write_text(json.dumps(play))
        (directory / "vars.json").write_text(json.dumps(variables))
        python = Path("/usr/bin/python3")
        if user:  # as connected to the host without become
            python = directory / "python"
            python.write_text(f'#!/bin/sh\nexec setpriv --reuid {user} --clear-groups /usr/bin/python3 "$@"\n')
            python.chmod(0o755)
        (directory / "hosts").write_text(
            f"[clustered_openvpn]\nhost ansible_connection=local ansible_python_interpreter={python}\n"
        )
        done = subprocess.run(
            [
                *(*self.world.enter, "ansible-playbook", "-i", f"{directory}/hosts"),
                *("-e", f"@{directory}/vars.json", *options, f"{directory}/play.yml"),
            ],
            env={**os.environ, "ANSIBLE_PIPELINING": "1"},  # no module in a file that only root can read
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        output = done.stdout + done.stderr
        blocks = re.split(r"^TASK \[", output, flags=re.M)[1:]
        return [b.split("\n")[0].strip("* ") for b in blocks if re.search(r"^changed: ", b, re.M)], output

    def cluster(self, *options: str, user: str = "", **variables: t.Any) -> tuple[list[str], str]:
        """Run the role netns_cluster."""
        given = {
            "netns_cluster_name": self.name,
            "netns_cluster_interface": "nic0",
            "netns_cluster_address": ADDRESS,
            "netns_cluster_prerequisites": False,
            "netns_cluster_pki": False,
            **variables,
        }
        return self.role("netns_cluster", *options, user=user, **given)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Host]:
    """A host without a cluster."""
    made = Host(tmp_path_factory.mktemp("refusals"))
    try:
        yield made
    finally:
        made.remove()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"openvpn_server_extra_options": [f"client-connect {HOOK}"]},
            f"openvpn_server_extra_options: 'client-connect {HOOK}': OpenVPN runs this script only with",
        ),
        (
            {"openvpn_server_extra_options": ["status /run/status 5"]},
            "openvpn_server_extra_options: 'status /run/status 5': the status file is",
        ),
        (
            {"openvpn_server_extra_options": ["port 1195"]},
            "openvpn_server_extra_options: 'port 1195': it contradicts the port of the instance",
        ),
    ],
    ids=lambda value: next(iter(value.values()))[0].split()[0] if isinstance(value, dict) else "",
)
def test_options_of_servers_that_would_serve_nobody(host: Host, variables: dict[str, t.Any], message: str) -> None:
    changed, output = host.cluster(**variables)
    assert message in output, output[-3000:]
    assert changed == []
    assert host.files() == host.files_before
    assert not differences(host.before, states_of([host.world.host]))


def test_an_address_of_a_client_that_no_server_has_a_route_to(host: Host, tmp_path: Path) -> None:
    (tmp_path / "alice").write_text("# fixed\n  ifconfig-push 192.168.77.5 255.255.255.0\n")
    (tmp_path / "bob").write_text("ifconfig-push 10.8.1.5 255.255.255.0\n")
    given = {"netns_cluster_size": 2, "openvpn_server_client_config_directory": str(tmp_path)}
    changed, output = host.cluster(**given)
    text = " ".join(output.split())
    assert (
        f"{tmp_path}/alice: 'ifconfig-push 192.168.77.5 255.255.255.0' is outside of 10.8.0.0/24, 10.8.1.0/24" in text
    )
    assert (
        f"{tmp_path}/bob: 'ifconfig-push 10.8.1.5 255.255.255.0' is outside of the network of {host.name}1-udp" in text
    )
    assert changed == []


def test_a_health_check_without_its_program(host: Host) -> None:
    given = {
        "clusterip_cluster_name": host.name,
        "clusterip_cluster_interface": "nic0",
        "clusterip_cluster_address": ADDRESS,
        "clusterip_cluster_services": [{"protocol": "tcp", "port": 80}],
        "clusterip_cluster_check_command": ["no-such-program", "--silent"],
        "clusterip_cluster_prerequisites": False,
    }
    changed, output = host.role("clusterip_cluster", **given)
    assert "clusterip_cluster_check_command: 'no-such-program': host has no such program" in " ".join(output.split())
    assert changed == []
    _changed, output = host.role(
        "clusterip_cluster", "--check", **{**given, "clusterip_cluster_check_command": ["test", "1"]}
    )
    assert "clusterip_cluster_check_command" not in output


@pytest.mark.parametrize("role", ["netns_cluster", "clusterip_cluster", "openvpn_server", "prerequisites"])
def test_root_is_asked_for_first(host: Host, role: str) -> None:
    given = {
        **{f"{kind}_cluster_interface": "nic0" for kind in ("netns", "clusterip")},
        **{f"{kind}_cluster_address": ADDRESS for kind in ("netns", "clusterip")},
    }
    changed, output = host.role(role, user="nobody", **given)
    text = " ".join(output.split())
    assert re.search("become: tasks run as the user [0-9]+ of host, but this role must run as root", text), output
    assert 'set "become: true" for the play, or use the option --become' in text
    assert changed == []
    failed = re.findall(r"^TASK \[(.*)\] .*\n(?:\[ERROR|fatal)", output, re.M)
    assert [name.rpartition(" : ")[2] for name in failed] == ["Check that tasks run as root"], output


def test_values_that_come_as_text(host: Host) -> None:
    """As --extra-vars NAME=VALUE makes all of them, and YAML some."""
    texts = {
        "netns_cluster_pki": "false",
        "netns_cluster_prerequisites": "no",
        "netns_cluster_pin": "True",
        "netns_cluster_total_nodes": "128",
        "netns_cluster_slice_prefix": "25",
        "netns_cluster_push": "dhcp-option DNS 192.0.2.1,route 192.0.2.0 255.255.255.0",
        "openvpn_server_service_timeout": "20",
        "openvpn_server_dco": "false",
    }
    lists = {
        "netns_cluster_members": [{"name": 1001, "number": "1", "cpus": ["0"], "weight": "1"}],
        "netns_cluster_instances": [{"name": 1, "protocol": "udp", "port": "1194", "pool": "10.8.0.0/16"}],
        "netns_cluster_services": [{"protocol": "tcp", "port": "80"}],
    }
    options = [word for name, value in texts.items() for word in ("-e", f"{name}='{value}'")]
    _changed, output = host.cluster("--check", "--diff", *options, **lists)
    assert " failed=0 " in output, output[-3000:]
    assert "ip netns add 1001" in output
    assert '+push "dhcp-option DNS 192.0.2.1"' in output, re.findall(".*push.*", output)
    _changed, output = host.cluster("--check", "-e", "netns_cluster_pki=maybe")
    assert "netns_cluster_pki" in output
    assert "maybe" in output
    assert " failed=1 " in output
