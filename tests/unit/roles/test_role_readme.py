# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""tools/role_readme: the rows of the table of variables. `make lint-roles` checks the READMEs themselves."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[3] / "tools/role_readme"


@pytest.fixture(scope="module")
def tool():
    loader = importlib.machinery.SourceFileLoader("role_readme", str(PATH))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


ROLE = {
    "meta/argument_specs.yml": """
argument_specs:
  main:
    options:
      r_address: {description: The address., type: str, required: true}
      r_mode: {description: "V(a) | V(b), see O(r_address=x).", type: str, choices: ["", a, b], default: ""}
      r_list:
        description: [First paragraph., Second paragraph.]
        type: list
        elements: dict
        default: [{name: a}]
        options:
          name: {description: "As in O(r_list[].port).", type: str, required: true}
          port: {description: Port., type: int, default: 1194}
          cpus: {description: Cores., type: list, elements: int}
""",
    "defaults/main.yml": 'r_address: ""\nr_mode: ""\nr_list: [{name: a}]\n',
    "README.md": "# r\n\nBEGIN\nold\nEND\n\nrest\n",
}


@pytest.fixture
def role(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "ROLES", tmp_path)
    for name, text in ROLE.items():
        path = tmp_path / "r" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("BEGIN", tool.BEGIN).replace("END", tool.END))
    return tmp_path / "r"


def test_the_table_has_types_defaults_choices_and_suboptions(tool, role):
    assert tool.table(role).splitlines()[2:] == [
        "| `r_address` | str | required | The address. |",
        '| `r_mode` | str | `""` | `a` \\| `b`, see `r_address: x`. One of `a`, `b`. |',
        "| `r_list` | list of dict | see [defaults](defaults/main.yml) | First paragraph. |",
        "| `r_list[].name` | str | required | As in `r_list[].port`. |",
        "| `r_list[].port` | int | `1194` | Port. |",
        "| `r_list[].cpus` | list of int |  | Cores. |",
    ]


def test_check_fails_until_the_table_is_written(tool, role, monkeypatch, capsys):
    before = (role / "README.md").read_text()
    monkeypatch.setattr("sys.argv", ["role_readme", "--check"])
    assert tool.main() == 1
    assert "roles/r/README.md" in capsys.readouterr().err
    assert (role / "README.md").read_text() == before
    monkeypatch.setattr("sys.argv", ["role_readme"])
    assert tool.main() == 0
    assert (role / "README.md").read_text() == f"# r\n\n{tool.BEGIN}\n{tool.table(role)}\n{tool.END}\n\nrest\n"
    monkeypatch.setattr("sys.argv", ["role_readme", "--check"])
    assert tool.main() == 0


def test_a_readme_without_the_markers_is_an_error(tool, role, monkeypatch, capsys):
    (role / "README.md").write_text("# r\n")
    monkeypatch.setattr("sys.argv", ["role_readme"])
    assert tool.main() == 1
    assert "add them where the table belongs" in capsys.readouterr().err
