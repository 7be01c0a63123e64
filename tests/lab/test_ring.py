# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Three hosts share an address, with a web server and OpenVPN each: which host answers, also after failures."""

from __future__ import annotations

import collections
import socket
import struct
import subprocess
import time
import typing as t

import pytest
from integration.world import within

from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn import management

from .cluster import ADDRESS, PORTS, say, wait_until
from .ring import UNITS, WEB, Capture, Ring, Sampler, bucket_of

LOST, KEPT = 5, 20  # numbers of clients to observe


# Variable -> the value on all other hosts, and the value on h2.
WRONG = {
    "clusterip_cluster_hash_init": (0, 1),
    "clusterip_cluster_clustermac": ("'03:00:00:00:00:01'", "'02:00:00:00:00:01'"),
    "clusterip_cluster_slots": (64, 256),
}


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Ring]:
    """Configured by the playbook, and serving."""
    made = Ring(
        "ring",
        tmp_path_factory.mktemp("ring"),
        hosts=3,
        clients=3,
        members=0,
        clusterip_cluster_services=[{"protocol": "tcp", "port": WEB}],
        clusterip_cluster_check_command=["nc", "-z", "127.0.0.1", "80"],
    )
    try:
        made.converge()
        yield made
    finally:
        made.remove()


def served_at(ring: Ring) -> dict[str, list[str]]:
    """Common name -> hosts that serve it."""
    found: dict[str, list[str]] = {}
    for host in ring.hosts:
        leader = ring.lab.host(host).leader()
        for instance in PORTS:
            path = f"/proc/{leader}/root/run/clustered-openvpn/vpn-{instance}/management.sock"
            try:
                status = management.ask(path, management.Management.status)
            except management.ManagementError:
                continue
            for client in status.clients:
                if client.virtual_address:
                    found.setdefault(client.common_name, []).append(host)
    return found


def test_a_second_run_changes_nothing(ring: Ring) -> None:
    before = ring.wait_until_owned(10)
    output = ring.converge()
    assert ring.changed(output) == dict.fromkeys(ring.hosts, 0)
    assert ring.wait_until_owned(1) == before
    shares = collections.Counter(before.values())
    assert sorted(shares.values()) == [84, 84, 88], "64 slots of 4 buckets, for three hosts"


def test_hosts_that_are_told_different_things_are_left_alone(ring: Ring) -> None:
    before = ring.wait_until_owned(10)
    for name, values in WRONG.items():
        status, output = ring.play(**{name: f"{{{{ {values[1]} if inventory_hostname == 'h2' else {values[0]} }}}}"})
        assert status != 0, output[-6000:]
        assert f"{name.removeprefix('clusterip_cluster_')}: " in output
        assert ring.changed(output) == dict.fromkeys(ring.hosts, 0), name
    assert ring.wait_until_owned(1) == before


def test_each_client_is_answered_once_by_the_predicted_host(ring: Ring) -> None:
    owners = ring.wait_until_owned(5)
    with Capture(ring) as capture:
        for source in ring.sources:
            assert ring.get(source) == owners[bucket_of(source)], source
        answers = capture.answers()
    assert {client for client, _port, _service in answers} >= set(ring.sources)
    twice = {key: macs for key, macs in answers.items() if len(macs) > 1}
    assert twice == {}


def test_other_ports_are_silent(ring: Ring) -> None:
    with Capture(ring) as capture:
        for source in ring.sources[:6]:
            assert ring.get(source, 0.3, port=22) is None
        answers = capture.answers()
    assert [key for key in answers if key[2] == 22] == []


def test_openvpn_clients_are_served_by_the_predicted_host(ring: Ring) -> None:
    for client, protocol in zip(ring.clients, ("udp", "tcp", "udp")):
        client.connect(*client.options_as(client.name, ADDRESS, PORTS[protocol], protocol))
    owners = ring.wait_until_owned(5)
    wanted = {client.name: [owners[bucket_of(client.address)]] for client in ring.clients}
    wait_until(lambda: served_at(ring) == wanted, 10, f"wanted {wanted}, but {served_at(ring)}")


def test_the_audit_names_who_else_advertises_the_slots(ring: Ring) -> None:
    assert "Each bucket has one owner" in ring.converge("audit.yml")
    before = ring.wait_until_owned(5)
    advert = struct.pack("!BBBBHH4s", 0x31, 200, 254, 1, 30, 0, bytes(4))
    with within(ring.netns("c1")), socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        for _repeated in range(20):
            sender.sendto(advert, ("224.0.0.181", 0))
            time.sleep(0.1)
    assert ring.wait_until_owned(1) == before, "it takes no slot"
    status, output = ring.play("audit.yml")
    assert status != 0
    for host in ring.hosts:
        assert f"{host}: 203.0.113.101 advertises the cluster's VRRP identifiers" in " ".join(output.split())


def test_an_administrator_who_talks_to_a_server_is_no_failure(ring: Ring) -> None:
    before = ring.wait_until_owned(5)
    host = ring.hosts[0]
    # Three times as long as the health check needs to detect a server that hangs.
    talk = "(sleep 1; echo state; sleep 8; echo quit) | nc -U /run/clustered-openvpn/vpn-udp/management.sock"
    with subprocess.Popen(
        ring.lab.host(host).command("sh", "-c", talk), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None:
            assert ring.wait_until_owned(2) == before
            time.sleep(0.2)
        assert process.stdout is not None
        assert "CONNECTED,SUCCESS" in process.stdout.read()


def power_off(ring: Ring, host: str) -> None:
    ring.tool("poweroff", host)


def cut(ring: Ring, host: str) -> None:
    ring.tool("cut", host)


def kill_keepalived(ring: Ring, host: str) -> None:
    ring.run_on(host, "kill -9 $(systemctl show --property MainPID --value clustered-openvpn-vrrp@vpn)")


def kill_group(ring: Ring, host: str) -> None:
    ring.run_on(host, "systemctl kill --kill-whom all --signal KILL clustered-openvpn-vrrp@vpn")


def hang(ring: Ring, host: str) -> None:
    ring.run_on(host, "kill -STOP $(systemctl show --property MainPID --value openvpn-server@vpn-udp)")


def freeze_claims(ring: Ring, host: str) -> None:
    ring.run_on(host, "kill -STOP $(systemctl show --property MainPID --value clustered-openvpn-claims@vpn)")


def nothing(ring: Ring, host: str) -> None:
    del ring, host


def power_on(ring: Ring, host: str) -> None:
    ring.tool("reboot", host)
    ring.wait_until_active(host, "nginx")
    ring.run_on(host, "ip route replace 198.18.0.0/24 via 203.0.113.101")


def mend(ring: Ring, host: str) -> None:
    ring.tool("mend", host)


def let_go(ring: Ring, host: str) -> None:
    ring.run_on(host, "kill -CONT $(systemctl show --property MainPID --value openvpn-server@vpn-udp)")


FAULTS = [
    *((kill_keepalived, nothing), (kill_group, nothing), (freeze_claims, nothing), (hang, let_go)),
    *((cut, mend), (power_off, power_on)),
]


@pytest.mark.parametrize(("fault", "cure"), FAULTS, ids=lambda function: function.__name__)
def test_others_take_over(
    ring: Ring,
    fault: t.Callable[[Ring, str], None],
    cure: t.Callable[[Ring, str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = ring.wait_until_owned(10)
    victim = collections.Counter(before.values()).most_common(1)[0][0]
    others = [host for host in ring.hosts if host != victim]
    lost = [s for s in ring.sources if before[bucket_of(s)] == victim][:LOST]
    kept = [s for s in ring.sources if before[bucket_of(s)] != victim][:KEPT]
    connected = [c.name for c in ring.clients if before[bucket_of(c.address)] == victim]
    pings = ring.pinging(kept)
    wait_until(lambda: all(ring.get(source) for source in kept[:3]), 5, "they are served")
    since = time.monotonic()
    fault(ring, victim)
    done = time.monotonic()
    served = ring.seconds_until_served(lost, others, since, 15)

    def back() -> bool:
        at = served_at(ring)
        return all(set(at.get(name, [])) & set(others) for name in connected)

    seconds = wait_until(back, 20, f"{connected} are back")
    lost_pings = pings.lost()
    say(
        capsys,
        f"{fault.__name__} ({done - since:.2f} s): new clients after {max(served.values()):.2f} s;"
        f" {len(connected)} connected after {time.monotonic() - since if connected else 0:.1f} s",
    )
    assert max(served.values()) - (done - since) < 3
    # Five seconds of ping-restart, and three more; four on top, since all hosts and clients share two cores.
    assert seconds < 5 + 3 + 4
    assert lost_pings == {}
    # Its buckets go to both of the other hosts.
    if fault is not cut:
        after = ring.wait_until_owned(5, others)
        assert {after[number] for number, host in before.items() if host == victim} == set(others)
        assert {number: host for number, host in after.items() if before[number] != victim} == {
            number: host for number, host in before.items() if host != victim
        }
    cure(ring, victim)
    ring.wait_until_active(victim, *UNITS)
    ring.wait_until_owned(10)


def test_a_run_while_a_host_is_down_moves_nothing(ring: Ring) -> None:
    ring.tool("poweroff", "h2")
    before = ring.wait_until_owned(10, ["h1", "h3"])
    _status, output = ring.play()
    assert "unreachable=1" in output
    assert {host: count for host, count in ring.changed(output).items() if host != "h2"} == {"h1": 0, "h3": 0}
    assert ring.wait_until_owned(1) == before
    with Capture(ring) as capture:
        power_on(ring, "h2")
        ring.wait_until_active("h2", *UNITS)
        for source in ring.sources[:40]:
            assert ring.get(source) == before[bucket_of(source)]
        answers_of_h2 = [key for key, macs in capture.answers().items() if "02:00:cb:00:71:02" in macs]
    assert answers_of_h2 == [], "it was not elected, so it must not answer"
    assert ring.wait_until_owned(1) == before, "without failback, nothing moves"
    output = ring.converge("many_hosts.yml", "--check")
    assert ring.changed(output) == dict.fromkeys(ring.hosts, 0)
    assert ring.wait_until_owned(1) == before


def test_slots_are_brought_back_with_hardly_a_gap(ring: Ring, capsys: pytest.CaptureFixture[str]) -> None:
    before = ring.wait_until_owned(5)
    assert "h2" not in before.values()
    sampler = Sampler(ring)
    sampler.start()
    status, output = ring.play("rebalance.yml")
    longest = sampler.end()
    assert status == 0, output[-6000:]
    say(capsys, f"moves by a playbook: {longest}, looked at every {sampler.pause:.2f} s at the most")
    after = ring.wait_until_owned(5)
    assert sorted(collections.Counter(after.values()).values()) == [84, 84, 88]
    assert longest["unowned"] <= 0.3 + sampler.pause
    assert longest["doubly owned"] <= 0.3 + sampler.pause


def test_both_halves_of_a_split_network_serve_and_one_after_it_heals(ring: Ring) -> None:
    before = ring.wait_until_owned(5)
    with ring.split("h3"):
        wait_until(lambda: len(ring.claims()["h3"]) == 256, 10, "h3 alone serves its side")
        wait_until(lambda: all(set(by) & {"h1", "h2"} for by in ring.owners().values()), 10, "the others serve theirs")
    after = ring.wait_until_owned(5)
    assert set(after) == set(before)


def test_the_election_moves_to_another_group_without_a_gap(ring: Ring, capsys: pytest.CaptureFixture[str]) -> None:
    before = ring.wait_until_owned(10)
    status, output = ring.play(clusterip_cluster_first_vrid=101, clusterip_cluster_vrrp_group="224.0.0.18")
    assert status == 0, output[-6000:]
    sampler = Sampler(ring)
    pings = ring.pinging(ring.sources[:KEPT])
    sampler.start()
    output = ring.converge(clusterip_cluster_first_vrid=192, clusterip_cluster_vrrp_group="224.0.0.181")
    longest = sampler.end()
    lost = pings.lost()
    say(
        capsys,
        f"from 101 in 224.0.0.18 to 192 in 224.0.0.181: {longest}, looked at every {sampler.pause:.2f} s at the most",
    )
    assert "VRRP changes from 224.0.0.18, identifiers 101 to 164, to 224.0.0.181" in " ".join(output.split())
    assert longest == {"unowned": 0.0, "doubly owned": 0.0}
    assert lost == {}
    time.sleep(6)  # three comparisons of the claims processes with keepalived
    assert ring.wait_until_owned(1) == before
    for host in ring.hosts:
        conf = ring.run_on(host, "cat /etc/clustered-openvpn/vpn.ring/keepalived.conf")
        assert "vrrp_mcast_group4 224.0.0.181" in conf
        assert "priority 254" not in conf
        assert "224.0.0.18 " not in ring.run_on(host, "nft list table ip clustered_openvpn_vpn.vrrp")
    assert ring.changed(ring.converge()) == dict.fromkeys(ring.hosts, 0)
    assert ring.wait_until_owned(1) == before


@pytest.mark.soak
def test_with_failback_a_host_takes_its_slots_again(ring: Ring, capsys: pytest.CaptureFixture[str]) -> None:
    ring.converge(clusterip_cluster_failback=True)
    before = wait_for_shares(ring)
    ring.tool("poweroff", "h1")
    ring.wait_until_owned(10, ["h2", "h3"])
    sampler = Sampler(ring)
    sampler.start()
    power_on(ring, "h1")
    after = wait_for_shares(ring)
    longest = sampler.end()
    say(capsys, f"failback: {longest}, looked at every {sampler.pause:.2f} s at the most")
    assert after == before
    assert longest["unowned"] <= 0.3 + sampler.pause
    assert longest["doubly owned"] <= 0.3 + sampler.pause


def wait_for_shares(ring: Ring) -> dict[int, str]:
    """Wait until each host has its share."""

    def fair() -> bool:
        return sorted(collections.Counter(ring.wait_until_owned(10).values()).values()) == [84, 84, 88]

    wait_until(fair, 30, "each host has its share")
    return ring.wait_until_owned(5)


def test_a_host_that_leaves_is_as_it_was(ring: Ring) -> None:
    # Its certificates are removed, too.
    leaving = {"clusterip_cluster_state": "absent", "clusterip_cluster_pki": True}
    ring.converge("many_hosts.yml", "--limit", "h3", **leaving)
    ring.wait_until_owned(10, ["h1", "h2"])
    left = ring.run_on(
        "h3", "nft list tables; ip -br addr; cat /proc/net/dev_mcast; ls /etc/clustered-openvpn /etc/systemd/system"
    )
    assert "clustered_openvpn" not in left
    assert ADDRESS not in left
    assert "0300cb007114" not in left
    assert "127.64." not in left
    assert "vpn" not in left.replace("openvpn", "")
