#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Compares nginx with the module to nginx's own ways, in alternation, on loopback, with one worker.
#
#   integrations/nginx/bench.sh [ROUNDS [SECONDS [PART...]]]     3 rounds, 2 seconds; as root; needs wrk
#   SNAPSEND_CONGESTION=reno integrations/nginx/bench.sh         selects TCP's congestion control
#
#   warm      16 connections, files of 4 KiB to 16 MiB, page cache warm: MB/s, and the worker's CPU seconds for a GB
#   cold      64 connections request 16 KiB, warm, while 16 clients read 16 files of COLD_MB (64) MiB that are not in
#             the page cache: the p99 of the 64, and MB/s of the 16
#
# Prints medians, and the processor, the kernel and the congestion control.
set -euo pipefail
export LC_ALL=C
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=server.sh
. "$root/integrations/nginx/server.sh"
command -v wrk >/dev/null || lack "no wrk"
begin_benchmark "$@"
rounds=${1:-3} seconds=${2:-2}
shift $(($# < 2 ? $# : 2))
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(warm cold)
sizes=(4096 16384 65536 262144 1048576 16777216)
cold_mb=${COLD_MB:-64}
ticks=$(getconf CLK_TCK)

prepare_server
echo "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | sort | uniq -c | sed 's/^ *\([0-9]*\)/\1 x/')," \
	"Linux $(uname -r), $(cat /proc/sys/net/ipv4/tcp_congestion_control), $(nginx -v 2>&1 | sed 's/.*: //')," \
	"$(date +%F), load $(cut -d' ' -f1 /proc/loadavg)"
for size in "${sizes[@]}"; do
	head -c "$size" /dev/urandom >"$work/new"
	cp "$work/new" "$work/data/$size"
done

# A server for each way, all in one worker.
declare -A directives=(
	[off]="sendfile off;"
	[sendfile]="sendfile on; tcp_nopush on;"
	[threads]="sendfile on; tcp_nopush on; aio threads;"
	[directio]="directio 1m; aio threads; output_buffers 2 512k;"
	[snapsend]="snapsend on;"
	[submit]="snapsend on; snapsend_min_size 0;"
	[try_send]="snapsend on; snapsend_min_size 1000m;"
)
ways=(off sendfile threads directio snapsend submit try_send)
declare -A port
for i in "${!ways[@]}"; do port[${ways[i]}]=$((8000 + i)); done
for way in "${ways[@]}"; do
	echo "server { listen 127.0.0.1:${port[$way]}; root $work/data; access_log off; keepalive_requests 1000000000; ${directives[$way]} }"
done | start_server bench "load_module $module; worker_processes 1;"
# The load that is known only after start_server has seen the worker start.
sleep 0.3
worker=$(workers bench)

median() { sort -g | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }
used() { awk '{ print $14 + $15 }' "/proc/$worker/stat"; } # in all its threads
results() { grep "^$1 $2 " "$work/results" | cut -d' ' -f"$3" | median; }

warm() {
	local size way before said
	: >"$work/results"
	for size in "${sizes[@]}"; do
		for _ in $(seq "$rounds"); do
			for way in off sendfile threads snapsend submit try_send; do
				before=$(used)
				said=$(wrk -t1 -c16 -d"${seconds}s" "http://127.0.0.1:${port[$way]}/$size")
				awk -v what="$size $way" -v size="$size" -v used=$(($(used) - before)) -v ticks="$ticks" '
                    /requests in/ { n = $1; sub(/s,/, "", $4); s = $4 }
                    /Socket errors|Non-2xx/ { print > "/dev/stderr" }
                    END { print what, n * size / 1e6 / s, used / ticks / (n * size / 1e9) }' \
					<<<"$said" | sed 's/ms,//' >>"$work/results"
			done
		done
	done
	echo
	echo "warm: MB/s, and the worker's CPU seconds for a GB ($rounds rounds of $seconds s)"
	printf '%-10s' bytes
	printf '%18s' off sendfile threads snapsend submit try_send
	printf '%16s\n' "snapsend/off"
	for size in "${sizes[@]}"; do
		printf '%-10s' "$size"
		for way in off sendfile threads snapsend submit try_send; do
			printf '%10.0f %7.3f' "$(results "$size" $way 3)" "$(results "$size" $way 4)"
		done
		awk -v a="$(results "$size" snapsend 3)" -v b="$(results "$size" off 3)" 'BEGIN { printf "%16.2f\n", a / b }'
	done
}

cold() {
	local i way said rate
	for i in $(seq 0 15); do head -c $((cold_mb << 20)) /dev/urandom >"$work/data/cold$i"; done
	sync
	: >"$work/results"
	for _ in $(seq "$rounds"); do
		for way in alone sendfile threads directio snapsend submit try_send; do
			echo 0 >"$work/rate"
			if [ $way != alone ]; then
				"$client" cold "${port[$way]}" "$work/data" 16 $((seconds + 2)) >"$work/rate" &
				sleep 1
			fi
			said=$(wrk -t1 -c64 -d"${seconds}s" --latency "http://127.0.0.1:${port[${way/alone/sendfile}]}/16384")
			[ $way = alone ] || wait $!
			rate=$(cat "$work/rate")
			awk -v what="cold $way" -v rate="$rate" '
                function ms(t) { return t ~ /us$/ ? t / 1000 : t ~ /ms$/ ? t + 0 : t * 1000 }
                /99%/ { p99 = ms($2) } /50%/ { p50 = ms($2) }
                /Requests\/sec/ { print what, p99, p50, $2, rate }' <<<"$said" >>"$work/results"
		done
	done
	echo
	echo "cold: 64 connections, 16 KiB, warm, beside 16 cold files of $cold_mb MiB ($rounds rounds of $seconds s)"
	printf '%-10s%12s%12s%14s%14s\n' "" "p99, ms" "p50, ms" "requests/s" "cold, MB/s"
	for way in alone sendfile threads directio snapsend submit try_send; do
		printf '%-10s%12.1f%12.1f%14.0f%14.0f\n' $way "$(results cold $way 3)" "$(results cold $way 4)" \
			"$(results cold $way 5)" "$(results cold $way 6)"
	done
}

for part in "${parts[@]}"; do $part; done
