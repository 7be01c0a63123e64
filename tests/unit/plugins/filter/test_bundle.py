# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.clustered.openvpn.plugins.filter.bundle import bundle_layout
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils._bundle.test_layout import SETTINGS


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tunnels": 0}, "a bundle has 1 to 64 tunnels"),
        ({"ends": 5}, "has a wrong type or lacks a key: TypeError"),
        ({"ends": [{}, {}]}, "has a wrong type or lacks a key: KeyError: 'name'"),
        ({"ends": ["left", "right"]}, "has a wrong type or lacks a key: TypeError"),
        ({"queue": None}, "has a wrong type or lacks a key: TypeError"),
    ],
)
def test_whatever_is_wrong_is_an_error_of_the_filter(given, said):
    with pytest.raises(AnsibleFilterError, match=said):
        bundle_layout({**SETTINGS, **given})
