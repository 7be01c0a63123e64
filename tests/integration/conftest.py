# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures: a world of namespaces for one test, gone afterwards, also when the test fails."""

from __future__ import annotations

import os
import subprocess
import typing as t
from itertools import count

import pytest

from .served import ServedWorld
from .world import MODULE_PYTHON, World

_numbers = count()


def pytest_report_header() -> str:
    """Which of the two pyroute2 the modules meet."""
    script = "from importlib.metadata import version; print(version('pyroute2'))"
    done = subprocess.run([MODULE_PYTHON, "-c", script], capture_output=True, text=True, check=False)
    return f"modules: {MODULE_PYTHON}, pyroute2 {done.stdout.strip() or 'is missing'}"


@pytest.fixture
def world() -> t.Iterator[World]:
    """An empty world with a prefix of its own."""
    made = ServedWorld(f"t{os.getpid() % 10000}x{next(_numbers)}")
    try:
        yield made
    finally:
        made.remove()
