# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which package may import which: docs/architecture.md has the map, this table is the law."""

from __future__ import annotations

import ast
import graphlib
import importlib
from pathlib import Path

import pytest

COLLECTION = "ansible_collections.clustered.openvpn."
ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "plugins").rglob("*.py"))
NAMES = {path: COLLECTION + ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES}
BY_NAME = {name: path for path, name in NAMES.items()}

# package -> the packages that it may import; a whole line each, nothing is inherited
ALLOWED = {
    "_params": set(),
    "_kernel": set(),
    "_state": {"_params"},
    "_files": {"_params"},
    "_module": {"_kernel", "_params"},
    "_topology": {"_kernel", "_params"},
    "_openvpn": {"_files", "_params", "_kernel"},
    "_cluster": {"_state", "_kernel", "_topology", "_params", "_openvpn"},
    "_ring": {"_state", "_cluster", "_openvpn", "_kernel", "_params"},
    "_bundle": {"_state", "_cluster", "_openvpn", "_kernel", "_params"},
    "_boot": {"_params", "_state", "_files", "_kernel", "_topology", "_openvpn", "_cluster", "_ring", "_bundle"},
    "filter": {"_state", "_openvpn", "_cluster", "_ring", "_bundle"},
}
# Only these files of _cluster talk to servers.
TALK_TO_SERVERS = {"plugins/module_utils/_cluster/moved.py", "plugins/module_utils/_cluster/reconnect.py"}


def package_of(path: Path) -> str:
    """_kernel for plugins/module_utils/_kernel/nft.py; filter and modules for theirs."""
    parts = path.relative_to(ROOT / "plugins").with_suffix("").parts
    return parts[1] if parts[0] == "module_utils" else parts[0]


def imports_of(path: Path) -> set[Path]:
    """The files of module_utils that a file imports; whole modules and names out of them alike."""
    own = NAMES[path].split(".")
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = own[: len(own) - node.level] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            found |= {".".join(module), *(".".join([*module, alias.name]) for alias in node.names)}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {BY_NAME[name] for name in found if name in BY_NAME} - {path}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "plugins")))
def test_a_package_imports_those_that_the_table_names(path: Path) -> None:
    package = package_of(path)
    if package in ("modules", "doc_fragments"):  # modules may import anything
        return
    allowed = set(ALLOWED[package])
    if package == "_cluster" and str(path.relative_to(ROOT)) not in TALK_TO_SERVERS:
        allowed.discard("_openvpn")
    assert {package_of(one) for one in imports_of(path)} - {package} <= allowed


def test_the_table_has_no_circle() -> None:
    left = dict(ALLOWED)
    while free := [package for package, needs in left.items() if not needs & set(left)]:
        for package in free:
            del left[package]
    assert not left


def test_files_import_each_other_in_no_circle() -> None:
    graphlib.TopologicalSorter({path: imports_of(path) for path in FILES}).prepare()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "plugins")))
def test_each_file_can_be_imported(path: Path) -> None:
    importlib.import_module(NAMES[path])
