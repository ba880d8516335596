#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# nginx with the shim against nginx without, and with a shim of bare pread and send (bare.c), in alternation on loopback:
# requests a second and the server's CPU time for each, medians. Wants nginx, wrk and a C compiler.
#
#   tests/preload/bench-nginx.sh [rounds [seconds [bytes...]]]
#
# SNAPSEND_PRELOAD: the shim (target/release/libsnapsend_preload.so). CONNECTIONS: 64.
set -u
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
export SNAPSEND_PRELOAD=${SNAPSEND_PRELOAD:-$("$here/../../build/target-dir")/release/libsnapsend_preload.so}
rounds=${1:-5} seconds=${2:-4}
shift $(($# < 2 ? $# : 2))
sizes=("$@")
[ ${#sizes[@]} -gt 0 ] || sizes=(4096 65536 1048576)
connections=${CONNECTIONS:-64}
PATH=$PATH:/usr/sbin
for program in nginx wrk "${CC:-cc}"; do
	command -v "$program" >/dev/null || {
		echo "SKIP: $program is not installed"
		exit 77
	}
done
[ -f "$SNAPSEND_PRELOAD" ] || {
	echo "no $SNAPSEND_PRELOAD: make first" >&2
	exit 1
}

work=$(mktemp -d /tmp/snapsend-bench.XXXXXX)
chmod 755 "$work"
mkdir "$work/root"
servers=()
cleanup() {
	for pid in "${servers[@]}"; do
		kill "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
# By cp, as files mostly come to a server: in the page cache it leaves other folios than head's small writes.
for size in "${sizes[@]}"; do
	head -c "$size" /dev/urandom >"$work/new"
	cp "$work/new" "$work/root/$size"
done

ways=(without bare shim)
"${CC:-cc}" -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -shared -fPIC "$here/bare.c" -o "$work/bare.so" || exit 1

user=""
[ "$(id -u)" != 0 ] || user="user root;"
declare -A ports workers
for way in "${ways[@]}"; do
	for try in 1 2 3 4 5; do
		port=$((20000 + RANDOM % 12000))
		cat >"$work/$way.conf" <<END
$user
worker_processes 1; daemon off; pid $work/$way.pid; error_log $work/$way.log;
events { worker_connections 4096; }
http {
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; root $work/root; default_type text/plain;
    client_body_temp_path $work/t1; proxy_temp_path $work/t2; fastcgi_temp_path $work/t3; uwsgi_temp_path $work/t4; scgi_temp_path $work/t5;
    server { listen 127.0.0.1:$port; }
}
END
		case $way in
		without) run=() ;;
		bare) run=(env "LD_PRELOAD=$work/bare.so") ;;
		shim) run=("$here/../../preload/snapsend-run") ;;
		esac
		"${run[@]}" nginx -c "$work/$way.conf" -p "$work" 2>"$work/$way.err" &
		pid=$!
		for _ in $(seq 50); do
			if [ -s "$work/$way.pid" ] && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
			sleep 0.05
		done
		worker=$(pgrep -P "$pid" | head -n 1)
		[ -n "$worker" ] && break
		[ "$try" != 5 ] || {
			echo "nginx does not start:"
			cat "$work/$way.err" "$work/$way.log"
			exit 1
		}
	done
	servers+=("$pid")
	ports[$way]=$port workers[$way]=$worker
done
for loaded in shim:snapsend_preload bare:bare.so; do
	grep -q "${loaded#*:}" "/proc/${workers[${loaded%%:*}]}/maps" || {
		echo "${loaded#*:} is not loaded"
		exit 1
	}
done

ticks() { # user and system time of a process, in hundredths of a second
	local stat
	read -r stat <"/proc/$1/stat"
	stat=${stat##*) }
	# shellcheck disable=SC2086
	set -- $stat
	echo $((${12} + ${13}))
}
one() { # way size seconds: "requests-per-second cpu-microseconds-per-request"
	local port=${ports[$1]} worker=${workers[$1]} before after output requests
	before=$(ticks "$worker")
	output=$(wrk -t 1 -c "$connections" -d "${3}s" "http://127.0.0.1:$port/$2")
	after=$(ticks "$worker")
	if grep -q 'Socket errors\|Non-2xx' <<<"$output"; then
		echo "$output" >&2
	fi
	requests=$(sed -n 's/^ *\([0-9]*\) requests in.*/\1/p' <<<"$output")
	awk -v r="$requests" -v t=$((after - before)) -v o="$(sed -n 's/^Requests\/sec: *//p' <<<"$output")" \
		-v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.1f %.2f\n", o, t / hz * 1e6 / r }'
}
median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

echo "nginx, one worker, wrk, $connections connections, $rounds rounds of $seconds s, medians"
printf '%9s %11s %11s %11s %12s %9s %13s %10s %10s %12s\n' bytes without/s bare/s shim/s shim/without shim/bare \
	'without us/req' 'bare us/req' 'shim us/req' shim/without
for size in "${sizes[@]}"; do
	for way in "${ways[@]}"; do
		one "$way" "$size" 1 >/dev/null
		: >"$work/$way.$size"
	done
	for ((round = 0; round < rounds; round++)); do
		for ((i = 0; i < ${#ways[@]}; i++)); do # each round begins with another one
			way=${ways[(round + i) % ${#ways[@]}]}
			one "$way" "$size" "$seconds" >>"$work/$way.$size"
		done
	done
	figures=()
	for column in 1 2; do
		for way in "${ways[@]}"; do figures+=("$(cut -d' ' -f$column "$work/$way.$size" | median)"); done
	done
	echo "$size ${figures[*]}" | awk '{ printf "%9d %11.0f %11.0f %11.0f %12.2f %9.2f %14.1f %11.1f %11.1f %12.2f\n",
		$1, $2, $3, $4, $4 / $2, $4 / $3, $5, $6, $7, $7 / $5 }'
done
