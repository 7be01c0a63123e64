# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.clustered.openvpn.plugins.filter.openvpn import openvpn_instance_names
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.instance import LOG, STATE

ROOT = Path(__file__).parents[4]


def test_names_are_those_of_the_documentation() -> None:
    documented = yaml.safe_load((ROOT / "plugins/filter/openvpn_instance_names.yml").read_text())
    samples = {key: value["sample"] for key, value in documented["RETURN"]["_value"]["contains"].items()}
    assert openvpn_instance_names("vpn1-udp") == samples
    assert openvpn_instance_names("branch", "client")["unit"] == "openvpn-client@branch"
    assert openvpn_instance_names("branch", "client")["config"] == "/etc/openvpn/client/branch.conf"


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="role: 'x': use one of server, client"):
        openvpn_instance_names("a", "x")


def test_prerequisites_creates_the_directories_of_instances() -> None:
    defaults = yaml.safe_load((ROOT / "roles/prerequisites/defaults/main.yml").read_text())
    directories = {entry["path"] for entry in defaults["prerequisites_directories"]}
    assert {STATE, LOG} <= directories
