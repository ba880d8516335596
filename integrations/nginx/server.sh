# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Sourced by tests/run-nginx and bench.sh: nginx on loopback in a network namespace of its own, as root. Everything else of
# it is in a directory that is removed at the end.
#
# Sets work and client. The caller sets root, and may set under, a command that nginx is started by.

# shellcheck source=../network.sh
. "${root:?}/integrations/network.sh"

module=${SNAPSEND_NGINX_MODULE:-$root/target/nginx/ngx_http_snapsend_module.so}
# shellcheck disable=SC2034 # for the script that sources this
client=$root/integrations/nginx/client.py
PATH=$PATH:/usr/sbin:/sbin
under=()

server_lacks() { lacks_any nginx /usr/bin/python3; }
in_network() { in_own_network -- "$@"; } # the script's arguments
# The same at the near end of the LAN, if that can be had.
on_lan_if_any() { # the script's arguments
	[ -z "${SNAPSEND_OWN_NETWORK:-}" ] || return 0
	"$bench" link lan true >"/dev/null" 2>&1 || return 0
	on_lan "$@"
}

clean_up() {
	local file
	set +e
	for file in "$work"/*/pid; do stop_server "$(basename "$(dirname "$file")")"; done
	rm -rf "$work"
}

# Makes the directories; the caller fills $work/data.
prepare_server() { make_work nginx; }

master() { cat "$work/$1/pid"; }
workers() { pgrep -P "$(master "$1")" -f 'worker process'; }

# Starts nginx under a name with what comes in as text inside http {}. Options are lines for the main context. nginx_user:
# the workers' user.
start_server() { # name options events
	mkdir -p "$work/$1"
	cat - >"$work/$1/http.conf"
	cat - "$work/$1/http.conf" >"$work/$1/nginx.conf" <<CONF
user ${nginx_user:-nobody nogroup};
$2
error_log $work/$1/error.log info;
pid $work/$1/pid;
# For a new binary, which is started with nothing else of the environment.
env LD_LIBRARY_PATH;
events { ${3:-worker_connections 4096;} }
http {
log_format exact '\$remote_addr \$status \$bytes_sent \$body_bytes_sent \$request_completion "\$request"';
access_log $work/$1/access.log exact;
client_body_temp_path $work/$1/client_body;
proxy_temp_path $work/$1/proxy;
fastcgi_temp_path $work/$1/fastcgi;
scgi_temp_path $work/$1/scgi;
uwsgi_temp_path $work/$1/uwsgi;
server_tokens off;
CONF
	echo "}" >>"$work/$1/nginx.conf"
	LD_LIBRARY_PATH=$work/lib "${under[@]}" "$(command -v nginx)" -c "$work/$1/nginx.conf" >"$work/$1/out" 2>&1 </dev/null &
	for _ in $(seq 300); do
		[ -s "$work/$1/pid" ] && grep -qs 'start worker process\|OS: Linux' "$work/$1/error.log" && return 0
		grep -qs emerg "$work/$1/out" && break
		sleep 0.1
	done
	cat "$work/$1/out" "$work/$1/error.log" >&2 2>/dev/null
	return 1
}

stop_server() { # name
	local pid
	pid=$(cat "$work/$1/pid" 2>/dev/null) || return 0
	kill -TERM "$pid" 2>/dev/null
	for _ in $(seq 100); do
		kill -0 "$pid" 2>/dev/null || return 0
		sleep 0.1
	done
	kill -KILL "$pid" 2>/dev/null
}
