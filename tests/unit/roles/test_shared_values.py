# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths that roles and modules must have in common."""

from __future__ import annotations

from pathlib import Path

import yaml

from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn import instance

ROLES = Path(__file__).parents[3] / "roles"


def test_prerequisites_creates_the_directories_of_the_modules():
    defaults = yaml.safe_load((ROLES / "prerequisites/defaults/main.yml").read_text())
    paths = {directory["path"] for directory in defaults["prerequisites_directories"]}
    assert paths == {"/etc/clustered-openvpn", instance.STATE, instance.LOG}
