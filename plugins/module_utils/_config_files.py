# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configurations as files: what is there, what would differ, and each replaced as a whole."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import typing as t
from dataclasses import dataclass

from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError


@dataclass(frozen=True)
class ConfigFile:
    """A file of root's, as it ought to be. C(gid) is None for a group that is not there yet (check mode)."""

    name: str
    path: str
    content: bytes
    gid: int | None
    mode: int


@dataclass(frozen=True)
class Found:
    """A file as it is."""

    content: bytes
    uid: int
    gid: int
    mode: int


def look(parameter: str, path: str) -> Found | None:
    """What is there. A link counts as a file with nothing but the link in it: what it leads to is somebody else's."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(status.st_mode):
        return Found(f"-> {os.readlink(path)}\n".encode(errors="replace"), -1, -1, stat.S_IMODE(status.st_mode))
    if not stat.S_ISREG(status.st_mode):
        raise ParameterError(parameter, path, "is no file; remove it, or choose another name")
    with open(path, "rb") as file:
        return Found(file.read(), status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))


def differs(wanted: ConfigFile, found: Found | None) -> bool:
    """Whether there is something to write."""
    if found is None:
        return True
    same_group = wanted.gid is None or wanted.gid == found.gid
    return not (same_group and (found.content, found.uid, found.mode) == (wanted.content, 0, wanted.mode))


def write(wanted: ConfigFile) -> None:
    """Replace it: whoever reads it meanwhile, or after a crash, has the old one or the new one."""
    directory, name = os.path.split(wanted.path)
    descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=f".{name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(wanted.content)
            os.fchown(descriptor, 0, -1 if wanted.gid is None else wanted.gid)
            os.fchmod(descriptor, wanted.mode)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, wanted.path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def diff(path: str, found: Found | None, wanted: ConfigFile | None) -> list[dict[str, t.Any]]:
    """For Ansible's C(--diff): the text, and owner and rights where these are what changes."""
    before, after = ("" if one is None else one.content.decode(errors="replace") for one in (found, wanted))
    result = []
    if before != after:
        result.append({"before_header": path, "after_header": path, "before": before, "after": after})
    if found is not None and wanted is not None:
        gid = found.gid if wanted.gid is None else wanted.gid
        rights = [
            f"{uid}:{gid} {mode:04o}\n"
            for uid, gid, mode in ((found.uid, found.gid, found.mode), (0, gid, wanted.mode))
        ]
        if rights[0] != rights[1]:
            header = f"{path} (owner, group, mode)"
            result.append({"before_header": header, "after_header": header, "before": rights[0], "after": rights[1]})
    return result
