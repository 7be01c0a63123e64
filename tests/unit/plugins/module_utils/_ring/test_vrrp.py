# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.clustered.openvpn.plugins.module_utils._ring import vrrp


def test_priorities_are_vrrps():
    assert [vrrp.priority(rank) for rank in (0, 1, vrrp.MAX_HOSTS - 1)] == [250, 242, 10]


def test_a_line_of_the_fifo_has_the_slot_of_its_instance():
    line = f'INSTANCE "{vrrp.instance_name("web-2", 12)}" MASTER 250'
    assert vrrp.parse_state(line) == (12, "MASTER")
    assert vrrp.parse_state('GROUP "web-2" MASTER 0') is None
