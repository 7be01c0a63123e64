# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils import _files
from ansible_collections.clustered.openvpn.plugins.module_utils._files import File


@pytest.mark.parametrize(
    ("found", "wanted", "differs"),
    [
        (None, None, False),
        (File(b"a", 0o640, 7), None, True),
        (None, File(b"a", 0o640, 7), True),
        (File(b"a", 0o640, 7), File(b"a", 0o640, 7), False),
        (File(b"a", 0o640, 8), File(b"a", 0o640, None), False),
        (File(b"a", 0o640, 8), File(b"a", 0o640, 7), True),
        (File(b"a", 0o644, 7), File(b"a", 0o640, 7), True),
        (File(b"a", 0o640, 7, 1), File(b"a", 0o640, 7), True),
        (File(b"b", 0o640, 7), File(b"a", 0o640, None), True),
    ],
)
def test_differs(found: File | None, wanted: File | None, differs: bool) -> None:
    assert _files.differs(found, wanted) is differs


def test_two_runs_at_once_leave_one_of_both(tmp_path: Path) -> None:
    path = tmp_path / "one.conf"
    whole = [letter * 100_000 for letter in (b"a", b"b")]
    _files.replace(str(path), whole[0], 0o600)

    def run(content: bytes) -> bool:
        for _time in range(40):
            _files.replace(str(path), content, 0o600)
            if path.read_bytes() not in whole:
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, whole * 2))
    assert os.listdir(tmp_path) == ["one.conf"]


def test_a_link_takes_the_place_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "one"
    (tmp_path / "one.new").write_text("half of")
    path.write_text("")
    for target in ("here", "there"):
        _files.link(str(path), target)
        assert os.readlink(path) == target
    assert os.listdir(tmp_path) == ["one"]
