# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Sourced by tests/run-samba and bench.sh: an smbd of one's own on loopback, with the module, as root. Its network is one
# of its own, it sees the module where it looks for modules, in a mount namespace of its own, and everything else of it is
# in a directory that is removed at the end.
#
# Sets work, log, reader, port and server, which is smbd's process group. The caller sets root, and may set under, a
# command that smbd is started by, and others=no: smbd then finds no modules for vfs objects but this one. start_server
# may be called again after stop_server.

# shellcheck source=../network.sh
. "${root:?}/integrations/network.sh"

module=${SNAPSEND_SAMBA_MODULE:-$root/target/samba/snapsend.so}
port=10445
# Two addresses of this machine's, for what is to look like two machines (RFC 5737).
near=192.0.2.1
far=192.0.2.2
PATH=$PATH:/usr/sbin:/sbin
server=
under=()
others=yes

server_lacks() { lacks_any smbd; }
in_network() { in_own_network "$near" "$far" -- "$@"; } # the script's arguments

stop_server() {
	[ -n "$server" ] || return 0
	kill -TERM -- "-$server" 2>/dev/null
	for _ in $(seq 50); do
		kill -0 -- "-$server" 2>/dev/null || break
		sleep 0.1
	done
	kill -KILL -- "-$server" 2>/dev/null
	wait "$server" 2>/dev/null
	server=
}

clean_up() {
	# Also in a script that ends at the first command that fails: kill does, when all have ended.
	set +e
	stop_server
	rm -rf "$work"
}

# Makes the directories; the caller fills $work/data.
prepare_server() {
	make_work samba
	mkdir "$work"/{lock,private,state,cache,pid,ncalrpc,modules,samba}
	chmod 777 "$work/data"
	log=$work/log.smbd
	reader=$work/smb2_reader
	cc -O2 -o "$reader" "$root/integrations/samba/smb2_reader.c"
}

# Where smbd has its modules, and libraries of its own.
module_directory() { smbd -b | sed -n 's/^ *MODULESDIR: *//p'; }

# Fills $work/modules with the module and links to the other files of that directory. start_server mounts it over the
# directory, which then is at $work/samba. The directory need not have a vfs: Debian's modules for vfs objects are a
# package of their own, samba-vfs-modules.
fill_modules() { # directory
	local file
	rm -rf "$work/modules"
	mkdir -p "$work/modules/vfs"
	for file in "$1"/* "$1"/vfs/*; do
		file=${file#"$1"/}
		case $others:$file in *:vfs | *:vfs/\* | no:vfs/*) continue ;; esac
		ln -s "$work/samba/$file" "$work/modules/$file"
	done
	install -m 644 "$module" "$work/modules/vfs/snapsend.so"
}

# Starts smbd with the shares that come in as text; one of them is [stock], with a file called "file". Its locks
# are process locks, which the kernel drops when any descriptor of the file is closed.
start_server() { # log level
	local modules
	modules=$(module_directory)
	fill_modules "$modules"
	cat - >"$work/shares"
	cat - "$work/shares" >"$work/smb.conf" <<CONF
[global]
	server role = standalone server
	interfaces = 127.0.0.1 $near
	bind interfaces only = yes
	smb ports = $port
	disable netbios = yes
	load printers = no
	printing = bsd
	disable spoolss = yes
	server min protocol = NT1
	client min protocol = NT1
	map to guest = Bad User
	guest account = nobody
	private dir = $work/private
	lock directory = $work/lock
	state directory = $work/state
	cache directory = $work/cache
	pid directory = $work/pid
	ncalrpc dir = $work/ncalrpc
	log file = $log
	max log size = 0
	log level = $1
	path = $work/data
	guest ok = yes
	smbd force process locks = yes
	read only = no

CONF
	export SMB_CONF_PATH=$work/smb.conf
	LD_LIBRARY_PATH=$work/lib setsid unshare -m sh -c \
		'mount --bind "$1" "$2" && mount --bind "$3" "$1" && shift 3 && exec "$@"' \
		sh "$modules" "$work/samba" "$work/modules" "${under[@]}" smbd -F --no-process-group -s "$work/smb.conf" >"$work/out" 2>&1 &
	server=$!
	for _ in $(seq 300); do
		"$reader" "$port" stock get file 0 1 1 >/dev/null 2>&1 && return 0
		sleep 0.1
	done
	cat "$work/out" "$log" >&2
	return 1
}
