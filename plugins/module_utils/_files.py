# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files owned by root: read, compare, and replace atomically."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import stat
import typing as t

from ._params import ParameterError


@dataclasses.dataclass(frozen=True)
class File:
    """A file with mode and owners. C(gid) None: the group does not exist yet (check mode)."""

    content: bytes
    mode: int
    gid: int | None
    uid: int = 0


def look(parameter: str, path: str) -> File | None:
    """The file at a path, or None. Of a symbolic link, the content is its target. Raises ParameterError."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(status.st_mode):
        return File(f"-> {os.readlink(path)}\n".encode(errors="replace"), stat.S_IMODE(status.st_mode), -1, -1)
    if not stat.S_ISREG(status.st_mode):
        raise ParameterError(parameter, path, "is not a regular file; remove it, or choose another name")
    with open(path, "rb") as file:
        return File(file.read(), stat.S_IMODE(status.st_mode), status.st_gid, status.st_uid)


def differs(found: File | None, desired: File | None) -> bool:
    """Whether the file has to be written or removed. Pure."""
    if found is None or desired is None:
        return found is not desired
    return found != (desired if desired.gid is not None else dataclasses.replace(desired, gid=found.gid))


def replace(path: str, content: bytes, mode: int, gid: int | None = None) -> None:
    """Write a file atomically: readers see the old one or the new one, also after a crash. Raises OSError.

    gid: None is the group of the process. A run that is killed leaves C(path.new), which the next one removes.
    """

    def write(new: str) -> None:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchown(descriptor, -1, -1 if gid is None else gid)
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)

    _put(path, write)


def link(path: str, target: str) -> None:
    """Create or replace a symbolic link atomically. Raises OSError."""
    _put(path, lambda new: os.symlink(target, new))


def remove(path: str) -> None:
    """Remove a file or link if it exists, and leftovers of a killed run. Raises OSError."""
    forget(path)
    _remove(path)


def forget(path: str) -> None:
    """Remove leftovers of a killed run. Raises OSError."""
    if os.path.isdir(os.path.dirname(path)):
        with _alone(path):
            _remove(f"{path}.new")


def _put(path: str, make: t.Callable[[str], None]) -> None:
    new = f"{path}.new"
    with _alone(path):
        _remove(new)
        try:
            make(new)
            os.replace(new, path)
        except BaseException:
            _remove(new)
            raise


@contextlib.contextmanager
def _alone(path: str) -> t.Iterator[None]:
    """Lock the file's directory, so that another run does not remove this run's temporary file as a leftover."""
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _remove(path: str) -> None:
    if os.path.lexists(path):  # on a read-only file system, unlink fails even without a file
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def diff(path: str, found: File | None, desired: File | None) -> list[dict[str, t.Any]]:
    """Diffs for Ansible: of the content, and of owner, group and mode if they differ. Pure."""
    before, after = ("" if one is None else one.content.decode(errors="replace") for one in (found, desired))
    result = []
    if before != after:
        result.append({"before_header": path, "after_header": path, "before": before, "after": after})
    if found is not None and desired is not None:
        gid = found.gid if desired.gid is None else desired.gid
        rights = [f"{f.uid}:{g} {f.mode:04o}\n" for f, g in ((found, found.gid), (desired, gid))]
        if rights[0] != rights[1]:
            header = f"{path} (owner, group, mode)"
            result.append({"before_header": header, "after_header": header, "before": rights[0], "after": rights[1]})
    return result
