#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds target/samba/snapsend.so for the samba from Debian that is installed on this machine.
#
#   integrations/samba/build.sh LIBRARY      LIBRARY is linked with; make samba-module builds it and runs this script
#
# A module needs Samba's own headers, configured and generated as Debian does it. The source package is unpacked and
# configured in target/samba/, and nothing of Samba is compiled. The module is linked with the installed libraries:
# their versioned symbols make smbd refuse a module that was built for another Samba.
#
# As root it installs what it needs from Debian: samba, dpkg-dev, gcc, and the build dependencies of samba's source
# package. Otherwise it prints what is missing and ends with status 77. The lists of source packages are kept in
# target/samba/, so that the package sources of the system are not changed.
set -euo pipefail
server=samba
# shellcheck source=../debian.sh
. "$(dirname "$0")/../debian.sh"
module=$work/snapsend.so
library=$(realpath "${1:?which library?}")

# dpkg-dev unpacks source packages; a container has neither it nor a compiler.
install_packages dpkg-dev gcc
source=$work/samba-$upstream
libraries=/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)

# ---- Samba's source, configured as Debian does it --------------------------------------------------

if [ ! -f "$source/debian/rules" ]; then
	say "fetching and unpacking the source of samba $version"
	apt=$work/apt
	mkdir -p "$apt/lists/partial"
	apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' 'Origin: Debian' | sort -u >"$apt/sources.list"
	from=(-q -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
		-o Dir::State::Lists="$apt/lists" -o APT::Sandbox::User=)
	quietly lists apt-get "${from[@]}" update
	rm -rf "$source"
	(cd "$work" && quietly source apt-get "${from[@]}" source "samba=$version")
	[ -f "$source/debian/rules" ] || {
		say "no $source in what apt-get source unpacked"
		exit 1
	}
	rm -rf "$apt"
fi

if ! (cd "$source" && dpkg-checkbuilddeps -B) >"$work/wanted" 2>&1; then
	is_root || missing "$(cat "$work/wanted")"
	say "installing what samba is built with (half a minute)"
	quietly update apt-get -q update
	quietly build-dep apt-get -qy -o DPkg::Lock::Timeout=300 --no-install-recommends --arch-only build-dep "$source"
fi

if [ ! -f "$source/bin/configured.stamp" ]; then
	say "configuring samba (a minute or two)"
	quietly configure env -C "$source" DEB_BUILD_OPTIONS=terse debian/rules configure
fi

# The generated files that the headers include.
if [ ! -f "$source/bin/generated.stamp" ]; then
	say "generating headers (half a minute)"
	generated=PIDL_AUTH,PIDL_FILE_ID,PIDL_KRB5PAC,PIDL_LSA,PIDL_MISC,PIDL_NETLOGON,PIDL_SAMR,PIDL_SECURITY
	generated+=,PIDL_SERVER_ID,PIDL_SMB2_LEASE_STRUCT,PIDL_SMB_ACL,PIDL_SMBXSRV
	generated+=,ntstatus_generated,werror_generated,param_local.h,s3_param_proto_h
	quietly generate env -C "$source" PYTHONHASHSEED=1 ./buildtools/bin/waf build --targets=$generated
	touch "$source/bin/generated.stamp"
fi

# ---- the module --------------------------------------------------------------------------------------

includes=()
for directory in bin/default bin/default/include include . source3 source3/include bin/default/source3 \
	bin/default/source3/include lib/replace lib bin/default/librpc; do
	includes+=("-isystem" "$source/$directory")
done
cc -shared -fPIC -O2 -g -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Werror \
	"-ffile-prefix-map=$here/=" -DHAVE_CONFIG_H=1 -D_GNU_SOURCE=1 -D_XOPEN_SOURCE_EXTENDED=1 \
	-D__STDC_WANT_LIB_EXT1__=1 -Dvfs_snapsend_init=samba_init_module \
	"${includes[@]}" -I"$root/include" \
	"$here/vfs_snapsend.c" -o "$module.new" \
	-Wl,-z,relro,-z,now,-z,defs,--as-needed,-rpath-link,"$libraries/samba" \
	-L"$libraries/samba" -l:libsmbd-base-samba4.so.0 -l:libsamba-debug-samba4.so.0 \
	-l:libsocket-blocking-samba4.so.0 -l:libiov-buf-samba4.so.0 -l:libsys-rw-samba4.so.0 \
	-l:libsamba-errors.so.1 -l:libsamba-util.so.0 -l:libsmbconf.so.0 -ltalloc -ltevent \
	"$library"
mv "$module.new" "$module"
say "built $module for samba $version"
