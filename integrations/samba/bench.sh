#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# smbd with the module beside smbd without, in alternation: MB/s and smbd's CPU seconds per GB on loopback, page cache
# warm, SMB 2.1 without signing, 4 reads in flight by smb2_reader, which copies what it gets to memory.
#
#   integrations/samba/bench.sh [ROUNDS [PART...]]      5 rounds; as root, about 10 minutes
#
#   large1, large16    1 and 16 clients read a file of 1 GiB each, 1 MiB at a time
#   long1              1 client, 8 MiB at a time, as smbclient does
#   small              1 client reads 10,000 files of 64 KiB
#
# Prints minimum, median and maximum, and the median of ours beside the best median of the others.
set -eu
export LC_ALL=C
root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/integrations/samba/server.sh"
rounds=${1:-5}
[ $# -eq 0 ] || shift
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(large1 large16 long1 small)
shares=(stock sendfile io_uring snapsend)

if lacks=$(server_lacks); then
    echo "bench.sh: $lacks" >&2
    exit 77
fi
[ -f "/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)/samba/vfs/io_uring.so" ] ||
    { echo "bench.sh: no vfs_io_uring: install samba-vfs-modules" >&2; exit 77; }
prepare_server
echo "making 1 GiB and 10,000 files of 64 KiB"
head -c 1G /dev/urandom >"$work/data/file"
for i in $(seq 0 9999); do
    head -c 65536 "$work/data/file" >"$work/data/small$i"
done
start_server 0 <<'CONF'
[stock]

[sendfile]
	use sendfile = yes
	aio read size = 0

[io_uring]
	vfs objects = io_uring

[snapsend]
	vfs objects = snapsend
CONF

# What smbd's children that have ended used, in clock ticks.
ended_ticks() { awk '{ print $16 + $17 }' "/proc/$server/stat"; }
# Bytes, seconds and smbd's ticks of one run.
run() { # share clients read_bytes first last format
    local before result
    before=$(ended_ticks)
    result=$("$reader" "$port" "$1" bench "$2" 4 "$3" 1 "$4" "$5" "$6")
    # Its smbds end when they notice that the clients have gone.
    for _ in $(seq 100); do
        [ "$(ss -Htn state established "sport = :$port" | wc -l)" = 0 ] && break
        sleep 0.05
    done
    sleep 0.5
    echo "$result $(($(ended_ticks) - before))"
}
arguments() { # part
    case $1 in
    large1) echo "1 1048576 0 0 file" ;;
    large16) echo "16 1048576 0 0 file" ;;
    long1) echo "1 8388608 0 0 file" ;;
    small) echo "1 1048576 0 9999 small%ld" ;;
    esac
}

ticks=$(getconf CLK_TCK)
for part in "${parts[@]}"; do
    read -r -a what <<<"$(arguments "$part")"
    : >"$work/results"
    run stock "${what[@]}" >/dev/null
    for round in $(seq "$rounds"); do
        for i in 0 1 2 3; do
            share=${shares[$(((i + round) % 4))]}
            echo "$share $(run "$share" "${what[@]}")" >>"$work/results"
        done
    done
    echo
    echo "$part, $rounds rounds"
    awk -v ticks="$ticks" '
        function sort(list, n,    i, j, x) {
            for (i = 2; i <= n; i++)
                for (j = i; j > 1 && list[j - 1] > list[j]; j--) { x = list[j]; list[j] = list[j - 1]; list[j - 1] = x }
        }
        { n[$1]++; rate[$1, n[$1]] = $2 / $3 / 1e6; cpu[$1, n[$1]] = $4 / ticks / ($2 / 1e9) }
        END {
            printf "%-10s %26s   %26s\n", "", "MB/s min/median/max", "CPU s/GB min/median/max"
            split("stock sendfile io_uring snapsend", order, " ")
            for (k = 1; k <= 4; k++) {
                s = order[k]; m = n[s]
                for (i = 1; i <= m; i++) { a[i] = rate[s, i]; b[i] = cpu[s, i] }
                sort(a, m); sort(b, m)
                middle = a[int((m + 1) / 2)]
                printf "%-10s %8.0f %8.0f %8.0f   ", s, a[1], middle, a[m]
                printf "%8.3f %8.3f %8.3f\n", b[1], b[int((m + 1) / 2)], b[m]
                if (s != "snapsend" && middle > best) best = middle
                if (s == "snapsend") printf "snapsend / best of the others: %.2f\n", middle / best
            }
        }' "$work/results"
done
