# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepare the home directory that ansible-test sanity runs with: pip's settings, and a "get-pip" made of pip's wheel.

Usage: sanity_pip.py HOME
"""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from ansible_test._internal.python_requirements import get_venv_packages

# Called as get-pip.py is: with the packages to install, and --no-setuptools --no-wheel, which pip does not know.
GET_PIP = """\
import sys
from pathlib import Path

here = Path(__file__).parent
sys.path.insert(0, str(here / "{wheel}"))

from pip._internal.cli.main import main

wanted = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
sys.exit(main(["install", "--quiet", "--no-index", "--find-links", str(here), *wanted]))
"""


def pip(*args: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def write_settings(path: Path) -> None:
    """Write down what pip goes by here: ansible-test gives it another home and none of the PIP_* variables."""
    settings = configparser.RawConfigParser()
    for line in sorted(pip("config", "list").splitlines(), key=lambda line: line.startswith(":env:")):
        name, value = line.split("=", maxsplit=1)
        section, option = name.replace(":env:", "global").rsplit(".", maxsplit=1)
        settings.read_dict({section: {option: ast.literal_eval(value)}})
    settings.read_dict({"global": {"quiet": "2"}})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    with path.open("w") as file:
        settings.write(file)


def main(home: Path) -> None:
    write_settings(home / ".config" / "pip" / "pip.conf")
    python_version = f"{sys.version_info.major}.{sys.version_info.minor}"
    pip_version = get_venv_packages(SimpleNamespace(version=python_version))["pip"]
    cache = home / ".ansible" / "test" / "cache"
    script = cache / f"get_pip_{pip_version.replace('.', '_')}.py"
    if not script.exists():
        pip("download", "--quiet", "--no-deps", "--dest", str(cache), f"pip=={pip_version}")
        (wheel,) = cache.glob(f"pip-{pip_version}-*.whl")
        script.write_text(GET_PIP.format(wheel=wheel.name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
