# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of root's: what is there, what would differ, and each replaced as a whole."""

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
    """A file with its owners; without a group where that is not there yet (check mode)."""

    content: bytes
    mode: int
    gid: int | None
    uid: int = 0


def look(parameter: str, path: str) -> File | None:
    """What is there. A link counts as a file with nothing but the link in it: what it leads to is somebody else's."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(status.st_mode):
        return File(f"-> {os.readlink(path)}\n".encode(errors="replace"), stat.S_IMODE(status.st_mode), -1, -1)
    if not stat.S_ISREG(status.st_mode):
        raise ParameterError(parameter, path, "is no file; remove it, or choose another name")
    with open(path, "rb") as file:
        return File(file.read(), stat.S_IMODE(status.st_mode), status.st_gid, status.st_uid)


def differs(found: File | None, wanted: File | None) -> bool:
    """Whether there is something to write or to remove. Pure."""
    if found is None or wanted is None:
        return found is not wanted
    return found != (wanted if wanted.gid is not None else dataclasses.replace(wanted, gid=found.gid))


def replace(path: str, content: bytes, mode: int, gid: int | None = None) -> None:
    """Whoever reads it meanwhile, or after a crash, has the old one or the new one. gid: that of the process, if None.

    What a killed run leaves is C(path) with .new after it, which the next one takes away. Raises OSError.
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
    """The same for a symbolic link."""
    _put(path, lambda new: os.symlink(target, new))


def remove(path: str) -> None:
    """Remove a file or a link that may be there, and what a killed run has left of it. Raises OSError."""
    forget(path)
    _remove(path)


def forget(path: str) -> None:
    """Remove what a killed run may have left of it. Raises OSError."""
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
    """In a file's directory: another run must not take this one's half for a killed one's."""
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _remove(path: str) -> None:
    if os.path.lexists(path):  # a file system that is read only would refuse what is not there, too
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def diff(path: str, found: File | None, wanted: File | None) -> list[dict[str, t.Any]]:
    """For Ansible's C(--diff): the text, and owner and rights where these are what changes. Pure."""
    before, after = ("" if one is None else one.content.decode(errors="replace") for one in (found, wanted))
    result = []
    if before != after:
        result.append({"before_header": path, "after_header": path, "before": before, "after": after})
    if found is not None and wanted is not None:
        gid = found.gid if wanted.gid is None else wanted.gid
        rights = [f"{f.uid}:{g} {f.mode:04o}\n" for f, g in ((found, found.gid), (wanted, gid))]
        if rights[0] != rights[1]:
            header = f"{path} (owner, group, mode)"
            result.append({"before_header": header, "after_header": header, "before": rights[0], "after": rights[1]})
    return result
