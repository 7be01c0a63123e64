# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepare a home directory for programs that run pip without this user's settings and environment.

pip_settings.py HOME            pip's settings, and the "get-pip" that ansible-test wants, made of pip's wheel
pip_settings.py --paths HOME    pip's settings alone; print the local files and directories that they name
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


def write_settings(path: Path) -> list[Path]:
    """Write the settings that pip uses here, from its files and PIP_* variables; the local paths that they name."""
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
    words = [word for section in settings for value in settings[section].values() for word in value.split()]
    # The files of an index lie beside its pages.
    paths = [Path(word.removeprefix("file://")).parent if "://" in word else Path(word) for word in words]
    return sorted({path for path in paths if path.is_absolute() and path.exists()})


def main(home: Path, *, only_paths: bool) -> None:
    paths = write_settings(home / ".config" / "pip" / "pip.conf")
    if only_paths:
        print("\n".join(map(str, paths)))
        return
    python_version = f"{sys.version_info.major}.{sys.version_info.minor}"
    pip_version = get_venv_packages(SimpleNamespace(version=python_version))["pip"]
    cache = home / ".ansible" / "test" / "cache"
    script = cache / f"get_pip_{pip_version.replace('.', '_')}.py"
    if not script.exists():
        pip("download", "--quiet", "--no-deps", "--dest", str(cache), f"pip=={pip_version}")
        (wheel,) = cache.glob(f"pip-{pip_version}-*.whl")
        script.write_text(GET_PIP.format(wheel=wheel.name))


if __name__ == "__main__":
    main(Path(sys.argv[-1]), only_paths="--paths" in sys.argv)
