#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Compares nginx with the module to nginx's own ways, in alternation, with one worker.
#
#   integrations/nginx/bench.sh [ROUNDS [SECONDS [PART...]]]     3 rounds, 2 seconds, warm and cold; as root; needs wrk
#   SNAPSEND_CONGESTION=reno integrations/nginx/bench.sh         selects TCP's congestion control on loopback
#   SIZES="65536 1048576" integrations/nginx/bench.sh            the files of warm, wire and lan
#
#   warm      loopback: 16 connections, files of 4 KiB to 16 MiB, page cache warm: MB/s, and the worker's CPU seconds for a GB
#   cold      loopback: 64 connections request 16 KiB, warm, while 16 clients read 16 files of COLD_MB (64) MiB that are not
#             in the page cache: the p99 of the 64, and MB/s of the 16
#   wire      64 connections over a link whose far end drops and acknowledges all data, so that only sending costs, with an
#             open_file_cache: 64 KiB to 16 MiB. benches/wire.c describes the link
#   lan       the same with wrk, over a link that copies each frame as a network card does (benches/lan.c)
#
# Prints medians, and the processor, the kernel and the congestion control. For cold the shim must have been built (make), for
# wire and lan the benchmark (make -C benches).
set -euo pipefail
export LC_ALL=C
root=$(cd "$(dirname "$0")/../.." && pwd)
# As root the workers may lock memory without a limit, as zero-copy needs.
# shellcheck disable=SC2034 # for server.sh
nginx_user=root
# shellcheck source=server.sh
. "$root/integrations/nginx/server.sh"
command -v wrk >/dev/null || lack "no wrk"
begin_benchmark "$@"
rounds=${1:-3} seconds=${2:-2}
shift $(($# < 2 ? $# : 2))
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(warm cold)
cold_mb=${COLD_MB:-64}
ticks=$(getconf CLK_TCK)
shim=$root/target/release/libsnapsend_preload.so
address=127.0.0.1
[ -z "${FAR_NETWORK:-}" ] || address=10.77.0.1

prepare_server
echo "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | sort | uniq -c | sed 's/^ *\([0-9]*\)/\1 x/')," \
	"Linux $(uname -r), $(cat /proc/sys/net/ipv4/tcp_congestion_control), $(nginx -v 2>&1 | sed 's/.*: //')," \
	"$(date +%F), load $(cut -d' ' -f1 /proc/loadavg)"

# By cp, as files mostly come to a server: in the page cache it leaves other folios than head's small writes.
make_files() { # size...
	local size
	for size in "$@"; do
		head -c "$size" /dev/urandom >"$work/new"
		cp "$work/new" "$work/data/$size"
	done
}

# A server for each way, all in one worker.
declare -A directives=(
	[off]="sendfile off;"
	[sendfile]="sendfile on; tcp_nopush on;"
	[threads]="sendfile on; tcp_nopush on; aio threads;"
	[directio]="directio 1m; aio threads; output_buffers 2 512k;"
	[snapsend]="snapsend on;"
	[submit]="snapsend on; snapsend_min_size 0;"
	[try_send]="snapsend on; snapsend_min_size 1000m;"
	[zerocopy]="snapsend on; snapsend_zerocopy on;"
)
ways=(off sendfile threads directio snapsend submit try_send zerocopy)
declare -A port=() worker=()
serve() { # server options directives way...
	local server=$1 options=$2 common=$3 way
	shift 3
	for way in "$@"; do
		port[$way]=$((8000 + ${#port[@]}))
		echo "server { listen ${port[$way]}; root $work/data; access_log off; keepalive_requests 1000000000;" \
			"$common ${directives[$way]:-sendfile on;} }"
	done >"$work/servers"
	start_server "$server" "worker_processes 1; $options" <"$work/servers"
	# The load that is known only after start_server has seen the worker start.
	sleep 0.3
	for way in "$@"; do worker[$way]=$(workers "$server"); done
}

median() { sort -g | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }
used() { awk '{ print $14 + $15 }' "/proc/$1/stat"; } # in all its threads
results() { grep "^$1 $2 " "$work/results" | cut -d' ' -f"$3" | median; }

# Each prints MB/s, and the worker's CPU seconds for a GB.
by_wrk() { # connections way size -- in front of wrk: a command
	local before said
	before=$(used "${worker[$2]}")
	said=$("${@:4}" wrk -t1 "-c$1" -d"${seconds}s" "http://$address:${port[$2]}/$3")
	# What came of answers that were not complete at the end counts, too.
	awk -v used=$(($(used "${worker[$2]}") - before)) -v ticks="$ticks" '
        function bytes(t) { return t * (t ~ /GB$/ ? 2 ^ 30 : t ~ /MB$/ ? 2 ^ 20 : t ~ /KB$/ ? 2 ^ 10 : 1) }
        /requests in/ { all = bytes($5); s = $4 + 0 }
        /Socket errors|Non-2xx/ { print > "/dev/stderr" }
        END { print all / 1e6 / s, used / ticks / (all / 1e9) }' <<<"$said"
}
by_far_end() { # connections way size
	local length
	length=$(curl -si "http://$address:${port[$2]}/$3" | wc -c)
	nsenter --net="$FAR_NETWORK" "$bench" get "${port[$2]}" "/$3" "$length" "$1" "$seconds" "${worker[$2]}" |
		awk '{ print $1 * 1000, $2 }'
}

measure() { # sizes ways command...
	local size way
	# shellcheck disable=SC2086 # words
	make_files $1
	: >"$work/results"
	for size in $1; do
		for _ in $(seq "$rounds"); do
			for way in $2; do
				echo "$size $way $("$3" "$4" "$way" "$size" "${@:5}")" >>"$work/results"
			done
		done
	done
}

# The last two columns: rate and CPU time of one way, divided by those of another.
print_table() { # sizes ways way other
	local size way
	printf '%-10s' bytes
	# shellcheck disable=SC2086 # words
	printf '%18s' $2
	printf '%22s\n' "$3/$4"
	for size in $1; do
		printf '%-10s' "$size"
		for way in $2; do printf '%10.0f %7.3f' "$(results "$size" "$way" 3)" "$(results "$size" "$way" 4)"; done
		awk -v a="$(results "$size" "$3" 3)" -v b="$(results "$size" "$4" 3)" -v c="$(results "$size" "$3" 4)" \
			-v d="$(results "$size" "$4" 4)" 'BEGIN { printf "%14.2f %7.2f\n", a / b, c / d }'
	done
}

warm() {
	local sizes=${SIZES:-4096 16384 65536 262144 1048576 16777216} compared="off sendfile threads snapsend submit try_send"
	measure "$sizes" "$compared" by_wrk 16
	echo
	echo "warm: MB/s, and the worker's CPU seconds for a GB ($rounds rounds of $seconds s)"
	print_table "$sizes" "$compared" snapsend off
}

link_sizes=${SIZES:-65536 262144 1048576 16777216}
link_ways="off sendfile snapsend zerocopy"
wire() {
	measure "$link_sizes" "$link_ways" by_far_end 64
	echo
	echo "wire: MB/s, and the worker's CPU seconds for a GB ($rounds rounds of $seconds s)"
	print_table "$link_sizes" "$link_ways" zerocopy sendfile
}
lan() {
	measure "$link_sizes" "$link_ways" by_wrk 64 nsenter --net="$FAR_NETWORK"
	echo
	echo "lan: MB/s, and the worker's CPU seconds for a GB ($rounds rounds of $seconds s)"
	print_table "$link_sizes" "$link_ways" zerocopy sendfile
}

cold() {
	local i way said rate compared=(sendfile threads directio shim snapsend submit try_send)
	[ -f "$shim" ] || lack "no $shim: make"
	under=(env "LD_PRELOAD=$shim")
	serve shim "" "" shim
	under=()
	for i in $(seq 0 15); do head -c $((cold_mb << 20)) /dev/urandom >"$work/data/cold$i"; done
	make_files 16384
	sync
	: >"$work/results"
	for _ in $(seq "$rounds"); do
		for way in alone "${compared[@]}"; do
			echo 0 >"$work/rate"
			if [ "$way" != alone ]; then
				"$client" cold "${port[$way]}" "$work/data" 16 $((seconds + 2)) >"$work/rate" &
				sleep 1
			fi
			said=$(wrk -t1 -c64 -d"${seconds}s" --latency "http://$address:${port[${way/alone/sendfile}]}/16384")
			[ "$way" = alone ] || wait $!
			rate=$(cat "$work/rate")
			awk -v what="cold $way" -v rate="$rate" '
                function ms(t) { return t ~ /us$/ ? t / 1000 : t ~ /ms$/ ? t + 0 : t * 1000 }
                /99%/ { p99 = ms($2) } /50%/ { p50 = ms($2) }
                /Requests\/sec/ { print what, p99, p50, $2, rate }' <<<"$said" >>"$work/results"
		done
	done
	echo
	echo "cold: 64 connections, 16 KiB, warm, beside 16 cold files of $cold_mb MiB ($rounds rounds of $seconds s)"
	printf '%-10s%12s%12s%14s%14s%12s\n' "" "p99, ms" "p50, ms" "requests/s" "cold, MB/s" "p99/alone"
	for way in alone "${compared[@]}"; do
		printf '%-10s%12.1f%12.1f%14.0f%14.0f' "$way" "$(results cold "$way" 3)" "$(results cold "$way" 4)" \
			"$(results cold "$way" 5)" "$(results cold "$way" 6)"
		awk -v a="$(results cold "$way" 3)" -v b="$(results cold alone 3)" 'BEGIN { printf "%12.1f\n", a / b }'
	done
}

# The script itself, at the near end of a link.
on_link() { # link
	[ -x "$bench" ] || lack "no $bench: make -C benches"
	SNAPSEND_OWN_NETWORK=yes "$bench" link "$1" "$0" "$rounds" "$seconds" "$1"
}

if [ -n "${FAR_NETWORK:-}" ]; then
	# shellcheck disable=SC2086 # words
	serve bench "load_module $module;" "open_file_cache max=1000;" $link_ways
else
	serve bench "load_module $module;" "" "${ways[@]}"
fi
for part in "${parts[@]}"; do
	case $part in
	wire | lan) if [ -n "${FAR_NETWORK:-}" ]; then $part; else on_link "$part"; fi ;;
	*) $part ;;
	esac
done
