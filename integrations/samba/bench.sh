#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Compares smbd with and without the module, in alternation: MB/s, and CPU seconds per GB of smbd, of smbd and its
# clients, and of the whole machine. Page cache warm, SMB 2.1 without signing, 4 reads in flight by smb2_reader, which
# copies the data to memory.
#
#   integrations/samba/bench.sh [ROUNDS [PART...]]      5 rounds; as root
#   SNAPSEND_LINK=loopback|lan integrations/samba/bench.sh  one link only
#   SNAPSEND_CONGESTION=reno integrations/samba/bench.sh    selects one of tcp_allowed_congestion_control
#
#   large1, large16    1 and 16 clients read a file of 1 GiB, all the same, 1 MiB at a time
#   apart16            16 clients read 16 files of 64 MiB, no two the same at a time
#   long1              1 client, 8 MiB at a time, as smbclient does
#   short1             1 client reads a file of 1 GiB, 64 KiB at a time
#   small              1 client reads 10,000 files of 64 KiB
#
# Two links, one after the other: loopback, and the LAN of benches/lan.c (a veth pair whose far end copies each frame as a
# network card does), where sending without a copy is real. There each frame is copied by whichever process runs at the
# time, so that only the CPU of the whole machine says what a way costs.
#
# The ways: default (stock: pread in helper threads), use sendfile = yes, pread in smbd's own thread (aio read size = 0),
# vfs_io_uring, and the module. Prints minimum, median and maximum, and compares the medians of the module with the best of
# the others. A run that fails, or takes longer than five minutes, ends the script with status 1.
set -euo pipefail
export LC_ALL=C
if [ -z "${SNAPSEND_LINK:-}" ]; then
	SNAPSEND_LINK=loopback "$0" "$@"
	SNAPSEND_LINK=lan exec "$0" "$@"
fi
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=server.sh
. "$root/integrations/samba/server.sh"
[ "$SNAPSEND_LINK" = loopback ] || on_lan "$@"
begin_benchmark "$@"
[ -f "$(module_directory)/vfs/io_uring.so" ] || lack "no vfs_io_uring: install samba-vfs-modules"
rounds=${1:-5}
[ $# -eq 0 ] || shift
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(large1 large16 apart16 long1 short1 small)
shares=(stock sendfile pread io_uring snapsend)
client=()
if [ "$SNAPSEND_LINK" = lan ]; then
	near=10.77.0.1
	client=(nsenter "--net=$FAR_NETWORK" env "SMB2_READER_TO=$near" SMB2_READER_FROM=10.77.0.2)
fi

prepare_server
echo "$SNAPSEND_LINK: $(sed -n 's/^model name.*: //p' /proc/cpuinfo | sort | uniq -c | sed 's/^ *\([0-9]*\)/\1 x/')," \
	"Linux $(uname -r), $(cat /proc/sys/net/ipv4/tcp_congestion_control), Samba $(smbd -V | sed 's/^Version //')," \
	"$(date +%F), load $(cut -d' ' -f1 /proc/loadavg)"
echo "making 1 GiB, 16 files of 64 MiB, and 10,000 of 64 KiB"
head -c 1G /dev/urandom >"$work/data/file"
split -b 64M -d -a 2 "$work/data/file" "$work/data/apart"
(cd "$work/data" && head -c $((10000 * 65536)) file | split -b 65536 -d -a 4 - small)
start_server 0 <<'CONF'
[stock]

[sendfile]
	use sendfile = yes
	aio read size = 0

[pread]
	aio read size = 0

[io_uring]
	vfs objects = io_uring

[snapsend]
	vfs objects = snapsend
CONF

fail() {
	echo "bench.sh: $*" >&2
	tail -n 5 "$log" >&2
	exit 1
}
# What smbd's children that have ended used, in clock ticks.
ended_ticks() { awk '{ print $16 + $17 }' "/proc/$server/stat"; }
connections() { ss -Htn state established "sport = :$port" | wc -l; }
# What the whole machine has used, in clock ticks.
machine_ticks() { awk '{ for (i = 2; i <= 9; i++) if (i != 5 && i != 6) sum += $i; print sum; exit }' /proc/stat; }
# Bytes, seconds, the clients' CPU seconds, smbd's ticks and the machine's of one run.
run() { # share clients read_bytes first last format
	local before machine result
	before=$(ended_ticks)
	machine=$(machine_ticks)
	result=$(timeout 300 "${client[@]}" "$reader" "$port" "$1" bench "$2" 4 "$3" 1 "$4" "$5" "$6") || return
	machine=$(($(machine_ticks) - machine))
	# Its smbds end when they notice that the clients have gone.
	for _ in $(seq 200); do
		[ "$(connections)" = 0 ] && break
		sleep 0.05
	done
	[ "$(connections)" = 0 ] || return
	sleep 0.5
	echo "$result $(($(ended_ticks) - before)) $machine"
}
bytes_of() { # clients read_bytes first last format
	case $5 in
	file | apart*) echo $(($1 << 30)) ;;
	*) echo $(($1 * ($4 - $3 + 1) * 65536)) ;;
	esac
}
arguments() { # part
	case $1 in
	large1) echo "1 1048576 0 0 file" ;;
	large16) echo "16 1048576 0 0 file" ;;
	apart16) echo "16 1048576 0 15 apart%02ld" ;;
	long1) echo "1 8388608 0 0 file" ;;
	short1) echo "1 65536 0 0 file" ;;
	small) echo "1 1048576 0 9999 small%04ld" ;;
	esac
}

ticks=$(getconf CLK_TCK)
for part in "${parts[@]}"; do
	read -r -a what <<<"$(arguments "$part")"
	: >"$work/results"
	bytes=$(bytes_of "${what[@]}")
	run stock "${what[@]}" >/dev/null || fail "$part: stock failed"
	for round in $(seq "$rounds"); do
		for i in "${!shares[@]}"; do
			share=${shares[$(((i + round) % ${#shares[@]}))]}
			result=$(run "$share" "${what[@]}") || fail "$part: $share failed"
			[ "${result%% *}" = "$bytes" ] || fail "$part: $share: '$result', not $bytes bytes"
			echo "$share $result" >>"$work/results"
		done
	done
	echo
	echo "$SNAPSEND_LINK, $part, $rounds rounds"
	awk -v ticks="$ticks" -v shares="${shares[*]}" '
        function sort(list, n,    i, j, x) {
            for (i = 2; i <= n; i++)
                for (j = i; j > 1 && list[j - 1] > list[j]; j--) { x = list[j]; list[j] = list[j - 1]; list[j - 1] = x }
        }
        function show(value, n, format) {
            sort(value, n)
            printf format format format "  ", value[1], value[int((n + 1) / 2)], value[n]
            return value[int((n + 1) / 2)]
        }
        {
            n[$1]++
            rate[$1, n[$1]] = $2 / $3 / 1e6
            cpu[$1, n[$1]] = $5 / ticks / ($2 / 1e9)
            both[$1, n[$1]] = ($5 / ticks + $4) / ($2 / 1e9)
            all[$1, n[$1]] = $6 / ticks / ($2 / 1e9)
        }
        function least(old, new) { return old == 0 || new < old ? new : old }
        END {
            printf "%-9s %-21s  %-21s  %-21s  %-21s\n", "", "MB/s", "smbd, CPU s/GB", "and clients, CPU s/GB", "machine, CPU s/GB"
            count = split(shares, order, " ")
            for (k = 1; k <= count; k++) {
                s = order[k]
                for (i = 1; i <= n[s]; i++) { a[i] = rate[s, i]; b[i] = cpu[s, i]; c[i] = both[s, i]; d[i] = all[s, i] }
                printf "%-9s ", s
                middle = show(a, n[s], "%7.0f"); of_smbd = show(b, n[s], "%7.3f"); of_both = show(c, n[s], "%7.3f")
                of_all = show(d, n[s], "%7.3f")
                printf "\n"
                if (s == "snapsend") {
                    printf "snapsend / best of the others: MB/s %.2f, CPU %.2f of smbd", middle / best, of_smbd / least_smbd
                    printf ", %.2f with the clients, %.2f of the machine\n", of_both / least_both, of_all / least_all
                } else {
                    if (middle > best) best = middle
                    least_smbd = least(least_smbd, of_smbd)
                    least_both = least(least_both, of_both)
                    least_all = least(least_all, of_all)
                }
            }
        }' "$work/results"
done
