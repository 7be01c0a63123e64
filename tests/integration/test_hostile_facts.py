# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A compromised host returns facts with names of role variables: the roles write nothing on the controller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

HOSTILE = """\
import json
print(json.dumps({"ansible_facts": json.loads(%r)}))
"""

# Role -> the variable by which the facts would choose a path on the controller, and other variables of the run.
CASES: dict[str, tuple[str, dict[str, t.Any]]] = {
    "pki": ("pki_directory", {"pki_server_common_name": "vpn", "pki_clients": [{"name": "c1"}]}),
    "openvpn_client": (
        "openvpn_client_profile_directory",
        {
            "openvpn_client_profiles": ["c1"],
            "openvpn_client_remotes": [{"host": "192.0.2.10", "port": 1194, "protocol": "udp"}],
        },
    ),
}


@pytest.mark.parametrize("role", CASES)
@pytest.mark.parametrize("state", ["present", "absent"])
def test_facts_choose_no_path_on_the_controller(tmp_path: Path, role: str, state: str) -> None:
    variable, others = CASES[role]
    good, chosen = tmp_path / "good", tmp_path / "chosen-by-the-host"
    chosen.mkdir()
    (chosen / "c1.ovpn").write_text("somebody's")
    for name in ("clients/c1.crt", "clients/c1.key", "ca.crt", "tls-crypt.key"):
        (good / name).parent.mkdir(parents=True, exist_ok=True)
        (good / name).write_text("a certificate")
    (tmp_path / "library").mkdir()
    (tmp_path / "library/hostile.py").write_text(
        f"#!{sys.executable}\n# WANT_JSON\n" + HOSTILE % json.dumps({variable: str(chosen)})
    )
    play = {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"name": "A module whose result the host has forged", "hostile": {}},
            {"name": "Run the role", "ansible.builtin.include_role": {"name": f"clustered.openvpn.{role}"}},
        ],
    }
    (tmp_path / "play.json").write_text(json.dumps([play]))
    removal = {"pki_remove_authority": True} if role == "pki" else {}
    own = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        variable: str(good),
        f"{role}_state": state,
        "openvpn_client_pki_directory": str(good),
        **others,
        **(removal if state == "absent" else {}),
    }
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"h1": own}}}))
    done = subprocess.run(
        ["ansible-playbook", "-i", tmp_path / "hosts.json", tmp_path / "play.json"],
        env={**os.environ, "ANSIBLE_INJECT_FACT_VARS": "True", "ANSIBLE_LIBRARY": str(tmp_path / "library")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0, done.stdout
    assert f"{variable}: h1 returns this as a fact" in done.stdout + done.stderr, done.stdout + done.stderr
    assert [path.name for path in chosen.iterdir()] == ["c1.ovpn"]
