# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import typing as t

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.clustered.openvpn.plugins.filter.roles import ROLES, as_specified, specification

NAMES = sorted(path.name for path in ROLES.iterdir() if path.name != "pki")  # pki converts by itself
# In YAML, a mode 0755 is a number; as text it would be another mode.
AS_GIVEN = ("prerequisites_directories",)
LISTS = [
    (role, variable)
    for role in NAMES
    for variable, spec in specification(role).items()
    if spec["type"] == "list" and variable not in AS_GIVEN
]
BOOLEANS = [
    (role, variable) for role in NAMES for variable, spec in specification(role).items() if spec["type"] == "bool"
]


@pytest.mark.parametrize(
    ("role", "variable", "value", "converted"),
    [
        (
            *("netns_cluster", "netns_cluster_members"),
            [{"name": 1001, "number": "1", "weight": "2", "cpus": ["0"]}],
            [{"name": "1001", "number": 1, "weight": 2, "cpus": [0]}],
        ),
        ("netns_cluster", "netns_cluster_push", "route a,route b", ["route a", "route b"]),
        ("openvpn_server", "openvpn_server_instances", [], []),
        (
            *("openvpn_server", "openvpn_server_instances"),
            [{"name": 7, "network": "10.8.0.0/24", "dual_stack": "false", "port": "443"}],
            [{"name": "7", "network": "10.8.0.0/24", "dual_stack": False, "port": 443}],
        ),
        ("prerequisites", "prerequisites_install", "no", False),
        ("tunnel_bundle", "tunnel_bundle_tunnels", 4, 4),
    ],
)
def test_values_get_the_types_of_the_specification(role: str, variable: str, value: t.Any, converted: t.Any) -> None:
    made = as_specified(value, role, variable)
    assert made == converted
    assert repr(made) == repr(converted), "True equals 1"


class Lazy(list):
    """A container that cannot be copied, as those in which Ansible renders templates when they are read."""

    def __deepcopy__(self, memo: t.Any) -> t.Any:
        raise TypeError("refers to a template")


def test_lazy_containers_are_read_and_not_copied() -> None:
    value = Lazy([{"name": 7, "cpus": Lazy(["1"])}])
    assert as_specified(value, "netns_cluster", "netns_cluster_members") == [{"name": "7", "cpus": [1]}]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("netns_cluster_members", [{"name": "a", "weight": "much"}], "netns_cluster_members: .*weight"),
        ("netns_cluster_pki", "maybe", "netns_cluster_pki: .*maybe"),
        ("netns_cluster_nonsense", 1, "netns_cluster_nonsense: the role netns_cluster has no such variable"),
    ],
)
def test_an_error_names_the_variable(variable: str, value: t.Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        as_specified(value, "netns_cluster", variable)


def uses(role: str, variable: str) -> list[str]:
    """The lines of tasks, variables and templates that use a variable of the role."""
    paths = [p for folder in ("tasks", "vars", "templates") for p in (ROLES / role / folder).glob("*")]
    # A key of a mapping, such as a variable that is passed to another role, is no use; neither is its name as text.
    word = re.compile(rf"(?<![\w.']){variable}\b(?!')(?!:\s)")
    lines = [line.strip() for path in paths for line in path.read_text().splitlines()]
    return [line for line in lines if word.search(line) and line != f"__openvpn_server_variable: {variable}"]


@pytest.mark.parametrize(("role", "variable"), LISTS)
def test_lists_are_converted_where_a_role_uses_them(role: str, variable: str) -> None:
    for line in uses(role, variable):
        assert f"{variable} | clustered.openvpn.as_specified('{role}', '{variable}')" in line or "fail_msg" in line


@pytest.mark.parametrize(("role", "variable"), BOOLEANS)
def test_booleans_may_be_text(role: str, variable: str) -> None:
    for line in uses(role, variable):
        assert not re.search(rf"(?<![\w.']){variable}\b(?!')(?!:\s)(?!( \| default\(\w+\))? \| bool)", line), line


def test_documentation_is_true() -> None:
    documented = yaml.safe_load((ROLES.parent / "plugins/filter/as_specified.yml").read_text())
    sample = documented["RETURN"]["_value"]["sample"]
    assert as_specified([{"name": 1001, "cpus": ["0"]}], "netns_cluster", "netns_cluster_members") == sample
