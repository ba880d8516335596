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
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
PATH=/usr/sbin:/usr/bin:/sbin:/bin

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/target/nginx
module=$work/ngx_http_snapsend_module.so

say() { echo "nginx-module: $*"; }
missing() {
    say "$*"
    exit 77
}
quietly() { # name command...: its output is shown only when it fails
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 </dev/null || {
        tail -n 30 "$work/$name.log"
        say "$name failed; all of it is in $work/$name.log"
        exit 1
    }
}
is_root() { [ "$(id -u)" = 0 ]; }

library=$(realpath "${1:?which library?}")
command -v apt-get >/dev/null || missing "this is not Debian: the module is built with Debian's nginx-dev"
mkdir -p "$work"

wanted=()
for package in nginx dpkg-dev gcc make libpcre2-dev libssl-dev zlib1g-dev; do
    dpkg -s "$package" >/dev/null 2>&1 || wanted+=("$package")
done
if [ ${#wanted[@]} -gt 0 ]; then
    is_root || missing "not installed: ${wanted[*]}"
    quietly update apt-get -q update
    # Installing must not start the server.
    policy=/usr/sbin/policy-rc.d
    [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && trap 'rm -f $policy' EXIT; }
    quietly install apt-get -qy -o DPkg::Lock::Timeout=300 --no-install-recommends install "${wanted[@]}"
fi
version=$(dpkg-query -W -f '${Version}' nginx)
upstream=$(dpkg-query -W -f '${source:Upstream-Version}' nginx)
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
