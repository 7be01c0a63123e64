# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Named network namespaces, as C(ip netns) manages them: files in /run/netns on which a namespace is mounted."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import typing as t

DIRECTORY = "/run/netns"
CLONE_NEWNET = 0x40000000  # linux/sched.h
MS_BIND, MS_REC, MS_SHARED, MNT_DETACH = 0x1000, 0x4000, 0x100000, 2  # linux/mount.h, sys/mount.h
OWN = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


def path(netns: str) -> str:
    """The file that keeps a namespace alive and names it."""
    return f"{DIRECTORY}/{netns}"


def exists(netns: str) -> bool:
    """Whether a namespace of that name exists; "" is the one that the process is in.

    A crash can leave the file without a namespace mounted on it: the file is then on another device.
    """
    try:
        return not netns or os.stat(path(netns)).st_dev == os.stat(OWN).st_dev
    except OSError:
        return False


def names() -> list[str]:
    """The names of all namespaces, sorted."""
    return sorted(os.listdir(DIRECTORY)) if os.path.isdir(DIRECTORY) else []


@contextlib.contextmanager
def within(netns: str) -> t.Iterator[None]:
    """Move this thread into a namespace, and back at the end. Raises FileNotFoundError.

    Sockets that are opened inside, child processes, and files under /proc/sys/net belong to the namespace.
    """
    if not netns:
        yield
        return
    if not exists(netns):
        raise FileNotFoundError(errno.ENOENT, "no such network namespace", netns)
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(path(netns))
        try:
            yield
        finally:
            _call("setns", home, CLONE_NEWNET)
    finally:
        os.close(home)


@contextlib.contextmanager
def scratch() -> t.Iterator[None]:
    """Move this thread into a new namespace without a name, which ends when it moves back at the end."""
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", CLONE_NEWNET)
        try:
            yield
        finally:
            enter(home)
    finally:
        os.close(home)


def create(netns: str) -> None:
    """Create a namespace as C(ip netns add) does. Raises OSError.

    Without the child process that iproute2 and pyroute2 fork for it, which takes longer than all the rest: this thread
    enters a new namespace, mounts it under its name, and returns.
    """
    if os.path.exists(path(netns)) and not exists(netns):
        os.unlink(path(netns))
    _share_directory()
    os.close(os.open(path(netns), os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    with scratch():
        _mount(OWN, path(netns), MS_BIND)


def remove(netns: str) -> None:
    """Remove the name of a namespace; the namespace ends with the last process and socket in it. Raises OSError."""
    _libc.umount2(os.fsencode(path(netns)), MNT_DETACH)  # fails if nothing is mounted: the file is to be removed still
    os.unlink(path(netns))


def _share_directory() -> None:
    """Share mounts in /run/netns with other mount namespaces, as iproute2 does: a name removed here is gone there."""
    os.makedirs(DIRECTORY, exist_ok=True)
    try:
        _mount("", DIRECTORY, MS_SHARED | MS_REC)
    except OSError:  # it is no mount point yet
        _mount(DIRECTORY, DIRECTORY, MS_BIND | MS_REC)
        _mount("", DIRECTORY, MS_SHARED | MS_REC)


def enter(descriptor: int) -> None:
    """Move this thread into the namespace of an open file, for good. within() is the safe way."""
    _call("setns", descriptor, CLONE_NEWNET)


def _enter(file: str) -> None:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(descriptor)
    finally:
        os.close(descriptor)


def _mount(source: str, target: str, flags: int) -> None:
    _call("mount", os.fsencode(source), os.fsencode(target), b"none", ctypes.c_ulong(flags), None)


def _call(function: str, *args: t.Any) -> None:
    if getattr(_libc, function)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")
