# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab does what its README says, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import typing as t
from pathlib import Path

import pytest

LAB = Path(__file__).with_name("lab")
NAME = f"t{os.getpid()}"
PLACES = ("/run/clustered-openvpn-lab", "/var/cache/clustered-openvpn-lab/logs", "/run/systemd/nspawn", "/run/netns")


def lab(*args: str, check: bool = True, timeout: float = 400) -> subprocess.CompletedProcess[str]:
    """Run the tool."""
    done = subprocess.run([LAB, *args], capture_output=True, text=True, timeout=timeout, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


def inside(where: str, command: str, name: str = NAME) -> str:
    """What a shell command in a host or a client says, well or not."""
    return lab("exec", name, where, "--", "sh", "-c", command, check=False).stdout.strip()


def pings(client: str, address: str, name: str = NAME) -> bool:
    """Whether one ping is answered."""
    return "1 received" in inside(client, f"ping -c 1 -W 1 {address}", name)


def traces(name: str) -> list[str]:
    """All that there is of a lab on this machine: namespaces, processes, mounts, control groups, files."""
    found = [str(path) for place in PLACES if Path(place).is_dir() for path in Path(place).rglob(f"*{name}*")]
    found += [str(path) for path in Path("/sys/fs/cgroup").rglob(f"*lab-{name}")]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            known = (process / "cgroup").read_text() + (process / "cmdline").read_text()
            ended = ") Z " in (process / "stat").read_text()  # and the machine's init has not waited for it yet
        except OSError:
            continue
        if not ended and (f"lab-{name}" in known or f"lab/{name}" in known):
            found.append(known)
    return found


def overlays() -> int:
    """How many overlay file systems are mounted where this process is."""
    return Path("/proc/self/mountinfo").read_text().count(" - overlay ")


@pytest.fixture(scope="module", params=["bookworm", pytest.param("trixie", marks=pytest.mark.soak)])
def up(request: pytest.FixtureRequest) -> t.Iterator[str]:
    """A lab of two hosts and a client; its Debian."""
    lab("root", "--suite", request.param, timeout=1200)
    before = overlays()
    lab("up", NAME, "--hosts", "2", "--clients", "1", "--suite", request.param)
    yield request.param
    assert traces(NAME)
    lab("down", NAME)
    assert traces(NAME) == []
    assert overlays() == before
    lab("down", NAME)  # once more is no error


def test_hosts_have_booted(up: str) -> None:
    for host in ("h1", "h2"):
        assert inside(host, "systemctl is-system-running") == "running"
        assert inside(host, "hostname") == host
        assert inside(host, "sed -n s/VERSION_CODENAME=//p /etc/os-release") == up
        assert inside(host, "ip route show default") == ""
        assert inside(host, "stat -c %a /dev/net/tun") == "666"


def test_ansible_reaches_them(up: str, tmp_path: Path) -> None:
    inventory = tmp_path / "lab.yml"
    inventory.write_text(lab("inventory", NAME).stdout)
    done = subprocess.run(
        ["ansible", "-i", inventory, "clustered_openvpn", "-m", "ansible.builtin.ping"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.count("SUCCESS") == 2, done.stdout + done.stderr


@pytest.mark.usefixtures("up")
def test_everybody_is_on_the_switch() -> None:
    assert pings("c1", "203.0.113.1")
    assert pings("h1", "203.0.113.2")
    assert pings("switch", "203.0.113.101")


@pytest.mark.usefixtures("up")
def test_a_cable_is_cut_and_mended() -> None:
    lab("cut", NAME, "h1")
    assert not pings("c1", "203.0.113.1")
    assert pings("c1", "203.0.113.2")
    assert "NO-CARRIER" in inside("h1", "ip link show eth0")
    lab("mend", NAME, "h1")
    assert pings("c1", "203.0.113.1")


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize("how", [[], ["--hard"]])
def test_after_a_reboot_the_disk_is_there_and_the_network_is_new(how: list[str]) -> None:
    inside("h1", "touch /root/kept && sync; ip link add br9 type bridge; ip netns add x; nft add table ip x")
    inside("h1", "sysctl -w net.ipv4.ip_forward=1")
    show = "ip -br link | cut -d@ -f1; ip netns; nft list ruleset; sysctl -n net.ipv4.ip_forward; ls /root"
    mac = inside("h1", "cat /sys/class/net/eth0/address")
    lab("reboot", *how, NAME, "h1")
    assert inside("h1", show).split() == ["lo", *inside("h1", "ip -br link show lo").split()[1:], "eth0", "0", "kept"]
    assert mac == inside("h1", "cat /sys/class/net/eth0/address")
    assert pings("c1", "203.0.113.1")


@pytest.mark.usefixtures("up")
def test_a_host_that_is_off_is_switched_on_by_a_reboot() -> None:
    lab("poweroff", NAME, "h2")
    assert "is off" in lab("exec", NAME, "h2", "--", "true", check=False).stderr
    assert not pings("c1", "203.0.113.2")
    lab("reboot", NAME, "h2")
    assert pings("c1", "203.0.113.2")


@pytest.mark.usefixtures("up")
def test_logs_are_saved(tmp_path: Path) -> None:
    lab("logs", NAME, str(tmp_path))
    assert "systemd[1]: " in (tmp_path / "h1.journal.log").read_text()
    assert (tmp_path / "h2.console.log").exists()


@pytest.mark.usefixtures("up")
def test_a_second_lab_is_another_network() -> None:
    other = f"{NAME}b"
    try:
        lab("up", other, "--hosts", "1", "--clients", "2")
        assert pings("c2", "203.0.113.1", other)
        assert not pings("c2", "203.0.113.2", other)  # h2 of the first
        inside("h1", "touch /root/of-the-other", other)
        assert "of-the-other" not in inside("h1", "ls /root")
    finally:
        lab("down", other)
    assert traces(other) == []
    assert pings("c1", "203.0.113.1")


@pytest.mark.soak
def test_the_kernel_of_a_legacy_host_has_clusterip() -> None:
    name = f"{NAME}l"
    try:
        lab("up", name, "--hosts", "2", "--legacy", "1", "--clients", "1")
        assert inside("h1", "systemctl is-system-running; hostname", name).split() == ["running", "h1"]
        assert inside("h1", "modprobe ipt_CLUSTERIP && ls -d /proc/net/ipt_CLUSTERIP", name)
        assert inside("h2", "ls -d /proc/net/ipt_CLUSTERIP", name) == ""
        assert pings("c1", "203.0.113.1", name)
        assert pings("h1", "203.0.113.2", name)
        lab("cut", name, "h1")
        assert not pings("c1", "203.0.113.1", name)
        lab("mend", name, "h1")
        inside("h1", "touch /root/kept && sync; ip link add br9 type bridge", name)
        lab("reboot", name, "h1")
        assert inside("h1", "ls /root; ip -br link show br9", name) == "kept"
        lab("poweroff", name, "h1")
        assert "is off" in lab("exec", name, "h1", "--", "true", check=False).stderr
        lab("reboot", name, "h1")
        assert pings("c1", "203.0.113.1", name)
    finally:
        lab("down", name)
    assert traces(name) == []


def test_processes_left_running_end_with_the_lab() -> None:
    name = f"{NAME}p"
    lab("up", name, "--hosts", "1", "--clients", "1")
    try:
        for where in ("h1", "c1"):
            inside(where, "setsid sleep 1000 >/dev/null 2>&1 & echo", name)
        subprocess.run(["sh", "-c", f"ip netns exec lab-{name}-c1 sleep 1000 >/dev/null 2>&1 &"], check=True)
    finally:
        lab("down", name)
    assert traces(name) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "seconds", [pytest.param(0.1, marks=pytest.mark.soak), 0.3, pytest.param(0.6, marks=pytest.mark.soak), 1.0]
)
def test_an_interrupted_up_leaves_nothing(number: signal.Signals, seconds: float) -> None:
    name = f"{NAME}i"
    command = [LAB, "up", name, "--hosts", "3", "--clients", "3"]
    with subprocess.Popen(
        command,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a shell's background jobs ignore SIGINT
    ) as process:
        time.sleep(seconds)
        os.killpg(process.pid, number)  # as a terminal does: to the whole group
        status = process.wait(timeout=60)
    if status == 0:  # it was faster, and is no interrupted one
        lab("down", name)
        assert seconds > 0.5
    else:
        assert status in (128 + number, -number)  # the latter before it listens to signals
    assert traces(name) == []


def test_what_is_wrong_is_said() -> None:
    assert "up to 31 of a-z" in lab("up", "No!", check=False).stderr
    assert f"there is no lab {NAME}x" in lab("inventory", f"{NAME}x", check=False).stderr
