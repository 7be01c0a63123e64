# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests for kernels with CLUSTERIP. They run in a user-mode Linux: see tests/integration/test_legacy.py."""

from __future__ import annotations

import typing as t
from itertools import count

import pytest
from integration.world import World, sh

_numbers = count()


@pytest.fixture(scope="session", autouse=True)
def _modules() -> None:
    """Load the modules: the kernel does so for rules, but not for readers of /proc."""
    sh("modprobe -a ipt_CLUSTERIP xt_cluster veth bridge")


@pytest.fixture
def world() -> t.Iterator[World]:
    """An empty world."""
    made = World(f"l{next(_numbers)}")
    try:
        yield made
    finally:
        made.remove()
