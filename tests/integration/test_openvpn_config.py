# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of openvpn_config, with a temporary directory mounted on /etc/openvpn."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from .world import ModuleFailed, World, on_host

GROUP = "adm"
TWO = [{"name": "one", "content": "port 1\n"}, {"name": "two", "content": "port 2\n"}]


class Etc:
    """The directory that the module finds at /etc/openvpn, and calls of the module."""

    def __init__(self, world: World, directory: Path):
        self.server = directory / "server"
        self.server.mkdir()
        self.world = world
        world.netns("host")
        world.enter = on_host(world.host, {"/etc/openvpn": directory})

    def config(self, configurations: t.Sequence[dict[str, t.Any]] = (), **args: t.Any) -> dict[str, t.Any]:
        """The result of state=present, by default for C(TWO)."""
        return self.world.module("openvpn_config", configurations=configurations or TWO, group=GROUP, **args)

    def absent(self, *names: str, **args: t.Any) -> list[str]:
        """The names of the removed configurations."""
        result = self.world.module("openvpn_config", names=names, state="absent", **args)
        assert result["changed"] == bool(result["changed_names"])
        return result["changed_names"]

    def files(self) -> dict[str, tuple[str, int]]:
        """File name -> content and mode."""
        return {
            path.name: (path.read_text(), path.lstat().st_mode & 0o7777)
            for path in sorted(self.server.iterdir())
            if not path.is_symlink()
        }


@pytest.fixture
def etc(world: World, tmp_path: Path) -> Etc:
    """An empty directory for servers."""
    return Etc(world, tmp_path)


def test_files_are_written_once(etc: Etc) -> None:
    assert etc.config(check=True)["changed_names"] == ["one", "two"]
    assert etc.files() == {}
    assert etc.config()["changed_names"] == ["one", "two"]
    assert etc.files() == {"one.conf": ("port 1\n", 0o640), "two.conf": ("port 2\n", 0o640)}
    assert (etc.server / "one.conf").group() == GROUP
    inodes = [path.stat().st_ino for path in etc.server.iterdir()]
    again = etc.config()
    assert (again["changed"], again["changed_names"], again["diff"]) == (False, [], [])
    assert [path.stat().st_ino for path in etc.server.iterdir()] == inodes


def test_contents_are_in_diffs_alone(etc: Etc) -> None:
    result = etc.config([{"name": "one", "content": "setenv SECRET xyzzy\n"}])
    assert "xyzzy" in result.pop("diff")[0]["after"]
    assert "xyzzy" not in str(result)
    for bad in ({"content": "xyzzy"}, {"configuration": [{"name": "one", "content": "xyzzy"}]}):
        with pytest.raises(ModuleFailed, match="Unsupported parameters") as failed:
            etc.config(**bad)
        assert "xyzzy" not in str(failed.value)


def test_what_differs_is_replaced_and_the_diff_says_so(etc: Etc) -> None:
    etc.config()
    one, two = etc.server / "one.conf", etc.server / "two.conf"
    one.write_text("port 9\n")
    two.chmod(0o666)
    os.chown(two, 0, 0)
    for check in (True, False):
        result = etc.config(check=check)
        assert result["changed_names"] == ["one", "two"]
        text, rights = result["diff"]
        assert (text["before"], text["after"], text["after_header"]) == (
            "port 9\n",
            "port 1\n",
            "/etc/openvpn/server/one.conf",
        )
        assert rights["before"] == "0:0 0666\n"
        assert rights["after"].endswith(" 0640\n")
    assert etc.files() == {"one.conf": ("port 1\n", 0o640), "two.conf": ("port 2\n", 0o640)}


def test_a_link_is_replaced_by_a_file_and_what_it_leads_to_is_left_alone(etc: Etc, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("somebody else's")
    link = etc.server / "one.conf"
    link.symlink_to(other)
    assert etc.config()["diff"][0]["before"] == f"-> {other}\n"
    assert not link.is_symlink()
    link.unlink()
    link.symlink_to(other)
    assert etc.absent("one") == ["one"]
    assert list(etc.files()) == ["two.conf"]
    assert other.read_text() == "somebody else's"


def test_absent_removes_those_that_are_named(etc: Etc) -> None:
    etc.config([*TWO, {"name": "three", "content": ""}])
    gone = ("one", "two", "never")
    assert etc.absent(*gone, check=True) == ["one", "two"]
    assert len(etc.files()) == 3
    assert etc.absent(*gone) == ["one", "two"]
    assert list(etc.files()) == ["three.conf"]
    assert etc.absent(*gone) == []
    with pytest.raises(ModuleFailed, match=r"names\[1\]: '\.\./x': use at most 64 letters"):
        etc.absent("three", "../x")
    with pytest.raises(ModuleFailed, match="state is absent but all of the following are missing: names"):
        etc.world.module("openvpn_config", state="absent")
    for state, parameter in (("absent", "names"), ("present", "configurations")):
        with pytest.raises(ModuleFailed, match=f"{parameter}: None: use a list"):
            etc.world.module("openvpn_config", **{"state": state, parameter: None})


def test_what_a_killed_run_has_left_is_gone_after_the_next(etc: Etc) -> None:
    for changed in (["one"], []):
        for name in ("one", "two"):
            (etc.server / f"{name}.conf.new").write_text("half of")
        assert etc.config(TWO[:1])["changed_names"] == changed
        assert etc.absent("two") == []
        assert list(etc.files()) == ["one.conf"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"name": "../x", "content": ""}, r"configurations\[2\].name: '../x': use at most 64 letters"),
        ({"name": "three"}, "missing required arguments: content found in configurations"),
        ({"name": "two", "content": ""}, r"configurations\[\].name: 'two': named twice"),
        ({"name": "taken", "content": ""}, r"configurations\[\].name: '/etc/.*/taken.conf': is not a regular file"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(etc: Etc, bad: dict[str, t.Any], message: str) -> None:
    (etc.server / "taken.conf").mkdir()
    with pytest.raises(ModuleFailed, match=message):
        etc.config([*TWO, bad])
    with pytest.raises(ModuleFailed, match="role: 'client': there is no directory"):
        etc.config(role="client")
    assert [path.name for path in etc.server.iterdir()] == ["taken.conf"]


def test_a_group_or_a_directory_that_an_earlier_task_makes(etc: Etc) -> None:
    etc.server.rmdir()
    assert etc.config(check=True)["changed_names"] == ["one", "two"]
    assert etc.absent("one") == []
    etc.server.mkdir()
    args = {"configurations": TWO, "group": "no-such-group"}
    assert etc.world.module("openvpn_config", check=True, **args)["changed_names"] == ["one", "two"]
    with pytest.raises(ModuleFailed, match="group: 'no-such-group': there is no such group; create it"):
        etc.world.module("openvpn_config", **args)
    assert etc.files() == {}


def test_what_cannot_be_written_leaves_the_old_one(etc: Etc) -> None:
    etc.config()
    etc.world.enter = [*etc.world.enter, "prlimit", "--fsize=100"]
    long = [{"name": "one", "content": "port 7777\n" * 100}]
    with pytest.raises(ModuleFailed, match=r"/etc/openvpn/server/one\.conf: File too large"):
        World.module(etc.world, "openvpn_config", configurations=long, group=GROUP)
    assert etc.files() == {"one.conf": ("port 1\n", 0o640), "two.conf": ("port 2\n", 0o640)}
