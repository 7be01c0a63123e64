# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures: a world of namespaces for one test, gone afterwards, also when the test fails."""

from __future__ import annotations

import os
import typing as t
from itertools import count

import pytest

from .world import World

_numbers = count()


@pytest.fixture
def world() -> t.Iterator[World]:
    """An empty world with a prefix of its own."""
    made = World(f"t{os.getpid() % 10000}x{next(_numbers)}")
    try:
        yield made
    finally:
        made.remove()
