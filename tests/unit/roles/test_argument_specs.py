# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Defaults and argument specs of each role agree. (tools/role_readme writes the READMEs' tables from them.)"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROLES = sorted(p for p in (Path(__file__).parents[3] / "roles").iterdir() if p.is_dir())


def options_of(role):
    text = (role / "meta/argument_specs.yml").read_text()
    return yaml.safe_load(text)["argument_specs"]["main"]["options"]


@pytest.mark.parametrize("role", ROLES, ids=lambda r: r.name)
def test_argument_specs_mirror_the_defaults(role):
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text())
    options = options_of(role)
    # A required variable has an empty default, so that the role's own check reports it.
    assert {name for name in options if name not in defaults} == set()
    assert {name for name in defaults if name not in options} == set()
    for name, option in options.items():
        if not option.get("required"):
            assert option["default"] == defaults[name], name
