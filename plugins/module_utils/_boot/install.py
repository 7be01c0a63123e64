# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Installation of the program and of its units: files to write and to remove.

The program is the code of this collection: the files that the module cluster_service has imported.
"""

from __future__ import annotations

import glob
import os
import sys
import typing as t
from dataclasses import dataclass

from .. import _files

# A part of the program, which imports it only for a change.
from .._kernel import changes  # noqa: F401  # pylint: disable=unused-import
from .._openvpn.supervisor_systemd import UNITS
from .._ring import paths
from . import program as _program
from . import units as _units
from .units import DISTRIBUTED, LIBRARY, MANAGED, MEMBER, PROGRAM, PROGRAM_TEXT, TEXTS, WATCH


@dataclass(frozen=True)
class InstalledFile:
    """A file with its content and mode, or a link with its target."""

    text: str = ""
    mode: int = 0o644
    target: str = ""


Files = dict[str, InstalledFile]  # by path


def sources() -> Files:
    """The program and the files of this collection that it imports, at any depth of packages."""
    prefix = _program.__name__.rpartition("._boot.")[0] + "."
    files = {PROGRAM: InstalledFile(PROGRAM_TEXT, 0o755)}
    for name, module in sorted(sys.modules.items()):
        if name.startswith(prefix) and name != prefix + "_module":  # needs Ansible
            loader = getattr(module, "__loader__", None)
            text = loader.get_source(name) if loader is not None else None
            if text:
                path = name.replace(".", "/") + ("/__init__" if hasattr(module, "__path__") else "")
                files[f"{LIBRARY}/{path}.py"] = InstalledFile(text)
    return files


def shared() -> Files:
    """Files that all clusters and bundles of the host use: the program and the template units."""
    return {**sources(), **{path: InstalledFile(text) for path, text in TEXTS.items()}}


def bonds(name: str, units: t.Iterable[str], failover: bool = False) -> Files:
    """Drop-ins and links that bind instances to their cluster: they start after it, with it, and stop with it.

    The keeper starts with it. failover: whether the claims unit does, too.
    """
    unit = _units.cluster_unit(name)
    text = f"{MANAGED}\n[Unit]\nBindsTo={unit}\nAfter={unit}\n"
    files: Files = {}
    for instance in units:
        files[f"{UNITS}/{instance}.service.d/{MEMBER}"] = InstalledFile(text)
        template = instance.partition("@")[0]
        target = _units.template_path(WATCH) if template == WATCH else f"{DISTRIBUTED}/{template}@.service"
        files[f"{UNITS}/{unit}.wants/{instance}.service"] = InstalledFile(target=target)
    wanted = {paths.keeper_unit(name): paths.KEEPER, **({paths.claims_unit(name): paths.CLAIMS} if failover else {})}
    for one, template in wanted.items():
        files[f"{UNITS}/{unit}.wants/{one}"] = InstalledFile(target=_units.template_path(template))
    return files


def installed_bonds(name: str) -> Files:
    """Drop-ins and links of a cluster that exist on the host."""
    unit = _units.cluster_unit(name)
    found = read(glob.glob(f"{UNITS}/{unit}.wants/*.service"))
    drop_ins = read(glob.glob(f"{UNITS}/*.service.d/{MEMBER}"))
    return {**found, **{path: file for path, file in drop_ins.items() if f"\nBindsTo={unit}\n" in file.text}}


def installed_shared() -> Files:
    """Files of the program and template units that exist on the host."""
    return read([PROGRAM, *TEXTS, *glob.glob(f"{LIBRARY}/**/*.py", recursive=True)])


@dataclass(frozen=True)
class Inputs:
    """Files that a running unit has read, and a file whose modification time is when it did."""

    loaded: str
    files: tuple[str, ...]

    def changed(self) -> bool:
        """Whether a file is newer than the unit's last reload. So a run completes an interrupted one."""
        if not os.path.exists(self.loaded):
            return True
        loaded = os.stat(self.loaded).st_mtime_ns
        return any(os.path.exists(path) and os.stat(path).st_mtime_ns > loaded for path in self.files)


def claims_inputs(name: str) -> Inputs:
    """The files that a cluster's claims process reads: desired state and program."""
    program = glob.glob(f"{LIBRARY}/**/*.py", recursive=True)
    return Inputs(paths.claims_loaded(name), (paths.desired_state(name), *program))


def keeper_inputs(name: str) -> Inputs:
    """The files that a cluster's keeper reads: as the claims process."""
    return Inputs(paths.keeper_loaded(name), claims_inputs(name).files)


def vrrp_inputs(name: str) -> Inputs:
    """The files that a cluster's keepalived unit reads."""
    return Inputs(paths.vrrp_loaded(name), (paths.keepalived_conf(name),))


def read(existing: t.Iterable[str]) -> Files:
    """Content, mode or target of those files that exist."""
    files = {}
    for path in existing:
        if os.path.islink(path):
            files[path] = InstalledFile(target=os.readlink(path))
        elif os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                files[path] = InstalledFile(file.read(), os.stat(path).st_mode & 0o777)
    return files


def differing(wanted: Files, installed: Files) -> tuple[Files, list[str]]:
    """Files to write, and paths to remove. Pure."""
    write = {path: file for path, file in wanted.items() if installed.get(path) != file}
    return write, sorted(path for path in installed if path not in wanted)


def put(files: Files) -> None:
    """Write files and links, each atomically. The program is last, since it must not import files that are missing yet.

    Raises OSError.
    """
    for path, file in sorted(files.items(), key=lambda item: item[0] == PROGRAM):
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        if file.target:
            _files.link(path, file.target)
        else:
            _files.replace(path, file.text.encode(), file.mode)


def drop(obsolete: t.Iterable[str]) -> None:
    """Remove files, and directories of the library and of units that become empty. Raises OSError."""
    for path in obsolete:
        os.unlink(path)
        directory = os.path.dirname(path)
        while directory.startswith((LIBRARY, f"{UNITS}/")) and not os.listdir(directory):
            os.rmdir(directory)
            directory = os.path.dirname(directory)
