#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# nginx with the shim against nginx without, in alternation on loopback: requests a second and the server's CPU
# time for each, medians. Wants nginx and wrk.
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
for program in nginx wrk; do
	command -v $program >/dev/null || {
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

user=""
[ "$(id -u)" != 0 ] || user="user root;"
declare -A ports workers
for way in without shim; do
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
		run=()
		[ $way = without ] || run=("$here/../../preload/snapsend-run")
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
grep -q snapsend_preload "/proc/${workers[shim]}/maps" || {
	echo "the shim is not loaded"
	exit 1
}

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
printf '%9s %14s %14s %7s %16s %16s %7s\n' bytes without/s shim/s ratio 'without us/req' 'shim us/req' ratio
for size in "${sizes[@]}"; do
	one without "$size" 1 >/dev/null
	one shim "$size" 1 >/dev/null
	: >"$work/without.$size"
	: >"$work/shim.$size"
	for _ in $(seq "$rounds"); do
		one without "$size" "$seconds" >>"$work/without.$size"
		one shim "$size" "$seconds" >>"$work/shim.$size"
	done
	for way in without shim; do
		declare "rate_$way=$(cut -d' ' -f1 "$work/$way.$size" | median)" "cpu_$way=$(cut -d' ' -f2 "$work/$way.$size" | median)"
	done
	# shellcheck disable=SC2154
	awk -v s="$size" -v a="$rate_without" -v b="$rate_shim" -v c="$cpu_without" -v d="$cpu_shim" \
		'BEGIN { printf "%9d %14.0f %14.0f %7.2f %16.1f %16.1f %7.2f\n", s, a, b, b / a, c, d, d / c }'
done
