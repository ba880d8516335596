#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds target/nginx/ngx_http_snapsend_module.so for the nginx from Debian that is installed on this machine.
#
#   integrations/nginx/build.sh LIBRARY      LIBRARY is linked with; make nginx-module builds it and runs this script
#
# Debian's nginx-dev has nginx's headers, its configure, and the options of Debian's nginx. It is unpacked in
# target/nginx/, not installed, because its dependencies are for other kinds of modules. Nothing of nginx is compiled.
#
# As root it installs what it needs from Debian: nginx, dpkg-dev, gcc, make, libpcre2-dev, libssl-dev and zlib1g-dev.
# Otherwise it prints what is missing and ends with status 77.
set -euo pipefail
server=nginx
# shellcheck source=../debian.sh
. "$(dirname "$0")/../debian.sh"
module=$work/ngx_http_snapsend_module.so
library=$(realpath "${1:?which library?}")

install_packages dpkg-dev gcc make libpcre2-dev libssl-dev zlib1g-dev
source=$work/nginx-dev-$upstream/usr/share/nginx/src

# ---- nginx-dev, configured as Debian's nginx is ----------------------------------------------------------

# The mirror has the newest version only. nginx accepts a module of the same upstream version.
fetch_headers() ( # directory
	apt-get -q update && cd "$1" || exit
	for from in "=$version" ""; do
		if apt-get -q -o APT::Sandbox::User= download "nginx-dev$from"; then
			exec dpkg -x nginx-dev_"$upstream"-*.deb unpacked
		fi
	done
	exit 1
)

if [ ! -x "$source/configure" ]; then
	say "fetching the headers of nginx $version"
	rm -rf "$work/fetched"
	mkdir "$work/fetched"
	quietly fetch fetch_headers "$work/fetched"
	rm -rf "$work/nginx-dev-$upstream"
	mv "$work/fetched/unpacked" "$work/nginx-dev-$upstream"
	rm -rf "$work/fetched"
fi

# ---- the module ----------------------------------------------------------------------------------------------

configure() (
	# shellcheck source=/dev/null
	. "$source/conf_flags" && cd "$source" || exit
	SNAPSEND_INCLUDE=$root/include SNAPSEND_LIBRARY=$library ./configure "${NGX_CONF_FLAGS[@]}" \
		--builddir="$work/objs" --add-dynamic-module="$here" \
		--with-cc-opt="-g -O2 -Wextra -Wno-unused-parameter -fstack-protector-strong -fPIC -Wdate-time -D_FORTIFY_SOURCE=2 -ffile-prefix-map=$here/=" \
		--with-ld-opt="-Wl,-z,relro -Wl,-z,now -fPIC"
)
if [ ! -f "$work/configured" ] || [ "$here/config" -nt "$work/configured" ] ||
	[ "$(cat "$work/configured")" != "$version $library" ]; then
	say "configuring nginx (half a minute)"
	quietly configure configure
	echo "$version $library" >"$work/configured"
fi
quietly compile make -C "$source" -f "$work/objs/Makefile" modules
cp "$work/objs/ngx_http_snapsend_module.so" "$module.new"
mv "$module.new" "$module"
say "built $module for nginx $version"
