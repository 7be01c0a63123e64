#!/usr/bin/env bash
# Dumps the state of a host, one line for each object that a role might leave behind.
set -euo pipefail

ip -o link | sed -E 's/^[0-9]+: //; s/@if[0-9]+//; s/ qlen [0-9]+//; s/^/link /'
# Figures that count by themselves are left out: what is left of a lifetime, the number of tracked flows.
ip -o addr | sed -E 's/^[0-9]+: //; s/_lft [0-9]+sec/_lft limited/g; s/^/address /'
ip -4 route show table all | sed 's/^/route /'
ip -6 route show table all | sed -E '/^multicast ff/d; s/ expires [0-9]+sec/ expires/; s/^/route /'
ip rule | sed 's/^/rule /'
ip neigh show proxy | sed 's/^/proxy /'
ip netns | sed 's/^/namespace /'
nft list ruleset | sed 's/^/nft /'
sysctl --all --pattern '^net\.' 2>/dev/null | grep -Ev '(stable_secret|random|fs-cache|nf_conntrack_count)' | sed 's/^/sysctl /'
systemctl list-units --all --plain --no-legend --type service,timer,path,socket |
    awk '/openvpn|clustered/ { print "unit", $0 }'
# Without the units of login sessions, such as that of this script.
systemctl list-unit-files --no-legend | awk '$2 != "transient" { print "unit file", $0 }'
getent passwd | sed 's/^/user /'
getent group | sed 's/^/group /'
dpkg-query -W -f 'package ${Package} ${db:Status-Status}\n'
ps -eo comm=,args= | awk '$1 ~ /openvpn/ { $1 = "process"; print }'
# ip creates /run/netns with the first namespace and does not remove it.
find /run -mindepth 1 -maxdepth 1 ! -name netns -printf "run %p\n"
# Left out: backups of passwd and the like, packages, the journal, and the state directory, which exists only while there are
# instances.
find /etc /opt /srv /usr/local /usr/lib/systemd /var/lib /var/log /var/spool -xdev \
    \( -path /var/lib/apt -o -path /var/lib/systemd -o -path /var/log/journal -o -path /var/lib/dpkg \
    -o -path /var/lib/clustered-openvpn -empty \) -prune -o \
    -type d -printf 'file %p %M %u:%g\n' -o \( -name '*-' -o -path '/var/log/*' \) -prune -o \
    -printf 'file %p %M %u:%g %s %l\n'
find /etc -xdev -type f ! -name '*-' -exec sha256sum {} + | sed 's/^/content /'
