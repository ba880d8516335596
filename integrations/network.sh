# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Sourced by nginx/server.sh and samba/server.sh: tests and benchmarks of a server in a network namespace of its own.
# They set root and module, and have clean_up. Sets bench, the program of the benchmarks.

bench=${root:?}/target/benches/bench

# Prints what is missing, if anything is: root, namespaces, one of the programs, or the module. Returns whether it is.
lacks_any() { # program...
	local name
	[ "$(id -u)" = 0 ] || {
		echo "needs root"
		return 0
	}
	unshare -mn true 2>/dev/null || {
		echo "no mount or network namespace can be had"
		return 0
	}
	for name in ip "$@"; do
		command -v "$name" >/dev/null || {
			echo "no $name"
			return 0
		}
	done
	[ -f "${module:?}" ] || {
		echo "no $module"
		return 0
	}
	return 1
}

# Makes work, a directory that clean_up removes at the end, with the library as it is when installed in $work/lib.
make_work() { # name
	work=$(mktemp -d "/tmp/snapsend-$1.XXXXXX")
	trap clean_up EXIT
	trap 'exit 130' INT TERM
	# Servers continue as nobody.
	chmod 755 "$work"
	mkdir "$work/data" "$work/lib"
	ln -s "${root:?}"/target/install/libsnapsend.so.*.*.* "$work/lib/libsnapsend.so.0"
}

# Begins the script anew in a network of its own, in which there is a loopback interface with these addresses besides its
# own ones.
in_own_network() { # address... -- the script's arguments
	local addresses=() address
	while [ "$1" != -- ]; do
		addresses+=("$1")
		shift
	done
	shift
	if [ -z "${SNAPSEND_OWN_NETWORK:-}" ]; then
		SNAPSEND_OWN_NETWORK=yes exec unshare -n -- "$0" "$@"
	fi
	ip link set lo up
	for address in "${addresses[@]}"; do ip address add "$address/32" dev lo; done
}

# Begins the script anew at the near end of the LAN of the benchmarks, 10.77.0.1: its far end, FAR_NETWORK, is another
# machine for the kernel, so that sending without a copy is real. Status 77 if there can be no such link.
on_lan() { # the script's arguments
	[ -z "${SNAPSEND_OWN_NETWORK:-}" ] || return 0
	[ -x "$bench" ] || lack "no $bench: make -C benches"
	SNAPSEND_OWN_NETWORK=yes exec "$bench" link lan "$0" "$@"
}

# Ends a benchmark that cannot run here, with status 77, and says why; else it begins anew in a network of its own, with
# the congestion control that is asked for. server_lacks and in_network are those of a server.sh.
begin_benchmark() { # the script's arguments
	local lacks
	if lacks=$(server_lacks); then
		lack "$lacks"
	fi
	in_network "$@"
	[ -z "${SNAPSEND_CONGESTION:-}" ] || echo "$SNAPSEND_CONGESTION" >/proc/sys/net/ipv4/tcp_congestion_control
}

lack() {
	echo "bench.sh: $*" >&2
	exit 77
}
