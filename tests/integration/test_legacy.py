# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tests in tests/legacy, on a kernel that has CLUSTERIP."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lab.uml import run_once

CHECKOUT = Path(__file__).parents[2]
FILES = sorted(path.name for path in (CHECKOUT / "tests/legacy").glob("test_*.py"))
LONG = {"test_ring.py": pytest.mark.soak}  # tests/lab/test_engines.py has such a ring, too


@pytest.mark.parametrize("name", [pytest.param(name, marks=LONG.get(name, ())) for name in FILES])
def test_on_a_kernel_that_has_clusterip(name: str, tmp_path: Path) -> None:
    options = ("-q", "--durations=5", "-p", "no:cacheprovider", f"--rootdir={CHECKOUT}")
    command = (sys.executable, "-B", "-m", "pytest", *options, str(CHECKOUT / "tests/legacy" / name))
    done = run_once(command, tmp_path, CHECKOUT, seconds=300)
    print(done.output)
    assert done.status == 0, done.output
