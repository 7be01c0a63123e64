# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the unit clustered-openvpn@ consists of: files that are wanted + files that are there -> steps.

The program is this collection's own code, as the module that installs it has just imported it.
"""

from __future__ import annotations

import glob
import os
import sys
import typing as t
from dataclasses import dataclass

from .. import _files
from .._kernel import changes  # noqa: F401 (a part of the program, which imports it only for a change)
from .._openvpn.supervisor_systemd import UNITS
from .._ring import follower
from . import program as _program
from .units import CLAIMS, DISTRIBUTED, LIBRARY, MADE, MEMBER, PROGRAM, PROGRAM_TEXT, TEXTS, WATCH


@dataclass(frozen=True)
class File:
    """A file's content and mode, or where a link points to."""

    text: str = ""
    mode: int = 0o644
    target: str = ""


Files = dict[str, File]


def sources() -> Files:
    """The program, and the files of this collection that it imports."""
    prefix = _program.__name__.rpartition("._boot.")[0] + "."
    files = {PROGRAM: File(PROGRAM_TEXT, 0o755)}
    for name, module in sorted(sys.modules.items()):
        if name.startswith(prefix) and name != prefix + "_module":  # that one is Ansible's side
            loader = getattr(module, "__loader__", None)
            text = loader.get_source(name) if loader is not None else None
            if text:
                path = name.replace(".", "/") + ("/__init__" if hasattr(module, "__path__") else "")
                files[f"{LIBRARY}/{path}.py"] = File(text)
    return files


def shared() -> Files:
    """What all clusters of the host have together."""
    return {**sources(), **{path: File(text) for path, text in TEXTS.items()}}


def bonds(name: str, units: t.Iterable[str], failover: bool = False) -> Files:
    """What ties instances to their cluster: they start after it and with it, and stop with it. So do its claims."""
    unit = f"clustered-openvpn@{name}.service"
    text = f"{MADE}\n[Unit]\nBindsTo={unit}\nAfter={unit}\n"
    files: Files = {}
    for instance in units:
        files[f"{UNITS}/{instance}.service.d/{MEMBER}"] = File(text)
        template = instance.partition("@")[0]
        link = f"{UNITS if template == WATCH else DISTRIBUTED}/{template}@.service"
        files[f"{UNITS}/{unit}.wants/{instance}.service"] = File(target=link)
    if failover:
        files[f"{UNITS}/{unit}.wants/clustered-openvpn-claims@{name}.service"] = File(target=CLAIMS)
    return files


def bonds_there(name: str) -> Files:
    """Those that are on the host."""
    unit = f"clustered-openvpn@{name}.service"
    found = read(glob.glob(f"{UNITS}/{unit}.wants/*.service"))
    drop_ins = read(glob.glob(f"{UNITS}/*.service.d/{MEMBER}"))
    return {**found, **{path: file for path, file in drop_ins.items() if f"\nBindsTo={unit}\n" in file.text}}


def shared_there() -> Files:
    """Those that are on the host."""
    return read([PROGRAM, *TEXTS, *glob.glob(f"{LIBRARY}/**/*.py", recursive=True)])


def read_by(name: str) -> dict[str, tuple[str, list[str]]]:
    """Kind of a cluster's units that read files -> a file that is as old as the last time it did, and those files."""
    run = f"{follower.RUN}-{name}"
    ring = f"{_program.MANIFESTS}/{name}.ring"
    program = glob.glob(f"{LIBRARY}/**/*.py", recursive=True)
    return {
        "claims": (f"{run}/{follower.LOADED}", [f"{_program.MANIFESTS}/{name}.json", *program]),
        "vrrp": (f"{run}/elected", [f"{ring}/keepalived.conf", f"{ring}/vrrp.nft"]),
    }


def outdated(reading: tuple[str, list[str]]) -> bool:
    """Whether any of the files is newer than what was read. So a run that ended in between is completed by the next."""
    stamp, paths = reading
    if not os.path.exists(stamp):
        return True
    return any(os.path.exists(path) and os.stat(path).st_mtime_ns > os.stat(stamp).st_mtime_ns for path in paths)


def read(paths: t.Iterable[str]) -> Files:
    """Files as they are; those that exist."""
    files = {}
    for path in paths:
        if os.path.islink(path):
            files[path] = File(target=os.readlink(path))
        elif os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                files[path] = File(file.read(), os.stat(path).st_mode & 0o777)
    return files


def differing(wanted: Files, there: Files) -> tuple[Files, list[str]]:
    """Files to write, and paths to remove. Pure."""
    write = {path: file for path, file in wanted.items() if there.get(path) != file}
    return write, sorted(path for path in there if path not in wanted)


def put(files: Files) -> None:
    """Write files and links; none is ever half there."""
    for path, file in files.items():
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        if file.target:
            _files.link(path, file.target)
        else:
            _files.replace(path, file.text.encode(), file.mode)


def drop(paths: t.Iterable[str]) -> None:
    """Remove files, and the directories of ours that are empty then."""
    for path in paths:
        os.unlink(path)
        directory = os.path.dirname(path)
        while directory.startswith((LIBRARY, f"{UNITS}/")) and not os.listdir(directory):
            os.rmdir(directory)
            directory = os.path.dirname(directory)
