#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Shows that the model tests (src/model/) notice what they should: puts one small mistake at a time
# into a copy of the sources and demands that the tests of that part fail.  Run by hand, a few
# minutes:  tests/mutants.sh [pattern of file or description]
#
# Fails when a mutant survives, does not compile, or its place in the source is not found any more.

set -u
cd "$(dirname "$0")/.."
root=$PWD
only=${1:-}

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cp -r Cargo.toml Cargo.lock build.rs cbindgen.toml src preload "$tree"
mkdir "$tree/include"

# What matters here is the time to compile.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/mutants
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_INCREMENTAL=true
export CARGO_PROFILE_RELEASE_DEBUG=0 RUST_BACKTRACE=0 PROPTEST_MAX_SHRINK_ITERS=0

log=$tree/log
killed=0
bad=0

# The model tests of a part.
model_tests() {
	(cd "$tree" && timeout 300 cargo test --release --quiet --lib "$1") \
		>"$log" 2>&1
}

compiles() {
	(cd "$tree" && cargo test --release --quiet --lib --no-run) >"$log" 2>&1
}

say() {
	printf '%-9s %-15s %-66s %s\n' "$@"
}

# mutant FILE DESCRIPTION SED-SCRIPT
mutant() {
	local file=$1 what=$2 script=$3 part=$1
	[[ "$file $what" == *"$only"* ]] || return 0
	case $file in
	request.rs | staging.rs | token.rs) part=edges.rs ;;
	esac
	sed -e "$script" "$root/src/$file" >"$tree/mutated"
	if cmp -s "$root/src/$file" "$tree/mutated"; then
		say 'NO PLACE' "$file" "$what" ''
		bad=$((bad + 1))
		return
	fi
	cat "$tree/mutated" >"$tree/src/$file"
	if ! compiles; then
		say 'NO BUILD' "$file" "$what" "$(grep -m1 '^error' "$log")"
		bad=$((bad + 1))
	elif model_tests "model::${part%.rs}::"; then
		say SURVIVED "$file" "$what" ''
		bad=$((bad + 1))
	else
		say killed "$file" "$what" "$(grep -m1 -A1 ' panicked at ' "$log" | tail -1 | cut -c1-70)"
		killed=$((killed + 1))
	fi
	cat "$root/src/$file" >"$tree/src/$file"
}

if ! model_tests model::; then
	tail -40 "$log"
	echo "the model tests fail without any mutation"
	exit 1
fi

# ---- operation -------------------------------------------------------------------------------

mutant operation.rs 'trailer bytes count as the range' \
	'/pub fn range_sent/,/}/s/\.min(self\.range)//'
mutant operation.rs 'more is sent than is at hand' \
	's/\.min(available)\.min(chunk));/.min(chunk));/'
mutant operation.rs 'more is sent than a chunk' \
	's/\.min(available)\.min(chunk));/.min(available));/'
mutant operation.rs 'the header is sent again' \
	's/let header_sent = .*;/let header_sent = 0;/'
mutant operation.rs 'the trailer goes before the padding is complete' \
	's/if reached + portion\.zeros == self\.range/if reached + portion.zeros <= self.range/'
mutant operation.rs 'more zeros than there are' \
	's/(self\.range - reached)\.min(PADDING_MAX)/self.range - reached/'
mutant operation.rs 'EXACT sends before all is held' \
	's/return self\.held >= self\.file_length;/return self.held > 0 || self.file_length == 0;/'
mutant operation.rs 'the header goes ahead of the data' \
	's/self\.range_sent() >= self\.file_length || available > 0/self.wire == 0 || &/'
mutant operation.rs 'the size is not looked at before the start' \
	's/if available < self\.range {/if false {/'
mutant operation.rs 'a short file is padded though nobody asked' \
	's/else if self\.task\.flags & ZERO_PAD != 0/else if self.task.flags \& MORE != 0/'
mutant operation.rs 'ZERO_PAD fails on a short file' \
	's/else if self\.task\.flags & ZERO_PAD != 0/else if false/'
mutant operation.rs 'TO_EOF of a file that shrinks forgets what was sent' \
	's/self\.set_end(available\.max(self\.range_sent()))/self.set_end(available)/'
mutant operation.rs 'TO_EOF does not end early' \
	's/self\.set_end(available\.max(self\.range_sent()))/return/'
mutant operation.rs 'the end of the file is read past' \
	's/self\.short(at);/let _ = at;/'
mutant operation.rs 'zeros from beyond the end of a mapped file pass for data' \
	's/if available < self\.file_length {/if false {/'
mutant operation.rs 'ends while a send is with the kernel' \
	's/Phase::Ending(status) if !self\.reading && !self\.sending/Phase::Ending(status) if !self.reading/'
mutant operation.rs 'ends while a read is with the kernel' \
	's/Phase::Ending(status) if !self\.reading && !self\.sending/Phase::Ending(status) if !self.sending/'
mutant operation.rs 'a later failure replaces the first' \
	'/pub fn fail/,/^    }/s/if !matches.*{/if true {/'
mutant operation.rs 'two reads at once' \
	's/self\.phase != Phase::Running || self\.reading {/self.phase != Phase::Running {/'
mutant operation.rs 'two sends at once' \
	's/self\.phase != Phase::Running || self\.sending ||/self.phase != Phase::Running ||/'
mutant operation.rs 'what was given up counts as held' \
	'/pub fn forget_held/,/}/s/self\.held = .*;//'
mutant operation.rs 'reads further ahead than it may' \
	's/waiting < ahead/waiting <= ahead/'
mutant operation.rs 'the snapshot is reported twice' \
	's/self\.snapshot_told |= due;//'
mutant operation.rs 'the snapshot is reported unasked' \
	's/let due = self\.task\.flags & NOTIFY_SNAPSHOT != 0$/let due = self.task.flags \& (NOTIFY_SNAPSHOT | MORE) != 0/'
mutant operation.rs 'the snapshot is reported of data that may be read again' \
	's/let keeps = .*;/let keeps = self.task.flags \& (EAGER | EXACT | MORE) != 0;/'
mutant operation.rs 'the snapshot of EAGER waits for the peer' \
	's/let keeps = .*;/let keeps = self.task.flags \& EXACT != 0;/'
mutant operation.rs 'the snapshot is reported before it is taken' \
	's/&& snapshotted >= self\.file_length;/\&\& snapshotted + 1 >= self.file_length;/'
mutant operation.rs 'the snapshot is not reported at the end' \
	's/matches!(self\.phase, Phase::Running | Phase::Ending(0))/self.phase == Phase::Running/'
mutant operation.rs 'the last bytes are held back with MSG_MORE' \
	's/self\.wire + portion\.len() < self\.total()/self.wire + portion.len() <= self.total()/'
mutant operation.rs 'MORE is forgotten' \
	's/portion\.more = self\.task\.flags & MORE != 0 ||/portion.more =/'
mutant operation.rs 'copied data is not called copied' \
	'/range_sent() > before/,/}/s/self\.was |= was;//'
mutant operation.rs 'padding is not called padding' \
	's/self\.was |= WAS_PADDED;//'
mutant operation.rs 'a stream that is untouched is called cut' \
	's/if status < 0) && self\.wire > 0/if status < 0)/'

# ---- schedule --------------------------------------------------------------------------------

mutant schedule.rs 'a socket stands in the line twice' \
	'/pub fn ready/,/^    }/s/queue\.standing == Standing::Idle/queue.standing != Standing::Parked/'
mutant schedule.rs 'the last in the line has its turn first' \
	's/self\.line\.pop_front()/self.line.pop_back()/'
mutant schedule.rs 'a socket keeps its place after its turn' \
	'/pub fn next_turn/,/^    }/s/self\.sockets\[socket\]\.standing = .*;//'
mutant schedule.rs 'what is to go ahead goes behind' \
	's/        if front {/        if false {/'
mutant schedule.rs 'the link back to a new first one is missing' \
	's/behind => self\.links\[behind as usize\]\.before = new,/_ => {}/'
mutant schedule.rs 'removing the last one leaves it the last' \
	's/NONE => queue\.last = link\.before,/NONE => {}/'
mutant schedule.rs 'removing one from the middle cuts off those behind' \
	's/before => self\.links\[before as usize\]\.behind = link\.behind,/before => self.links[before as usize].behind = NONE,/'
mutant schedule.rs 'a closed socket stays in the line' \
	'/pub fn close/,/^    }/s/Standing::InLine => .*/Standing::InLine => {}/'
mutant schedule.rs 'a closed socket stays parked' \
	'/pub fn close/,/^    }/s/Standing::Parked => .*/Standing::Parked => {}/'
mutant schedule.rs 'a closed socket is still found' \
	's/self\.by_cookie\.remove(&queue\.cookie);//'
mutant schedule.rs 'a parked socket gets turns' \
	'/pub fn park/,/^    }/s/if queue\.standing == Standing::InLine {/if false {/'
mutant schedule.rs 'a socket let go gets no turn' \
	'/pub fn unpark_all/,/^    }/s/self\.line\.push_back(socket);//'

# ---- pool ------------------------------------------------------------------------------------

mutant pool.rs 'leases overlap' \
	's/block\.taken\[page \/ 64\] |= bit;/let _ = bit;/'
mutant pool.rs 'a run begins one page early' \
	's/page + 1 - start == pages/page + 2 - start == pages/'
mutant pool.rs 'more is kept than may be' \
	's/purpose == Purpose::Kept && !self\.may_keep(bytes)/purpose == Purpose::Kept \&\& self.kept > self.kept_max()/'
mutant pool.rs 'all of the pool may be kept' \
	's/self\.blocks\.len() as u64 \* 3 \/ 4/self.blocks.len() as u64/'
mutant pool.rs 'what was kept is never free again' \
	's/if run\.purpose == Purpose::Kept {/if false {/'
mutant pool.rs 'what was reserved is never free again' \
	's/self\.kept -= length;/let _ = length;/'
mutant pool.rs 'what is reserved is counted twice' \
	's/        if purpose == Purpose::Kept {/        if purpose != Purpose::Passing {/'
mutant pool.rs 'released while others still use it' \
	's/if run\.uses > 0 {/if run.uses > 1 {/'
mutant pool.rs 'never released' \
	's/self\.mark(run\.block, run\.first, run\.pages, false);//'
mutant pool.rs 'the sum of what is leased only grows' \
	's/self\.in_use -= bytes;//'
mutant pool.rs 'a block in use is called idle' \
	's/is_some_and(|b| b\.free == total)/is_some_and(|b| b.free > 0)/'
mutant pool.rs 'the pool grows beyond its limit' \
	's/let count = (limit \/ block_size) as usize;/let count = (limit \/ block_size) as usize + 1;/'

# ---- timers ----------------------------------------------------------------------------------

mutant timers.rs 'too late by the last moment' \
	's/self\.next()? > now/self.next()? >= now/'
mutant timers.rs 'given before its time' \
	's/self\.next()? > now/self.next()? > now + std::time::Duration::from_millis(1)/'
mutant timers.rs 'compaction drops the living' \
	's/alive(\*id, \*slot))/!alive(*id, *slot))/'
mutant timers.rs 'the dead are never dropped' \
	's/> 64 + 4 \* living/> 64_000 + 4 * living/'
mutant timers.rs 'reasons are mixed up in the order' \
	's/self\.heap\.push(Reverse((at, entry)));/self.heap.push(Reverse((at, (entry.0, entry.1, Alarm::Retry))));/'

# ---- plan ------------------------------------------------------------------------------------

mutant plan.rs 'mapped though the end must be exact' \
	's/ && !known\.exact_end//'
mutant plan.rs 'mapped though it cannot be' \
	's/known\.resident && known\.mappable/known.resident/'
mutant plan.rs 'mapped though the disk would be waited for' \
	's/known\.resident && known\.mappable/known.mappable/'
mutant plan.rs 'zero-copy without room to keep the data' \
	's/&& known\.pool_has_room//'
mutant plan.rs 'zero-copy where it is useless' \
	's/ZeroCopy::Untried | ZeroCopy::Real)/ZeroCopy::Untried | ZeroCopy::Real | ZeroCopy::Useless)/'
mutant plan.rs 'residency is never asked about' \
	's/choose(&Known { resident: true, \.\.\*known }) != .*/choose(known) != choose(known)/'

# ---- completions -----------------------------------------------------------------------------

mutant completions.rs 'rung for every batch' \
	'/pub fn push/,/^    }/s/state\.bell\.rung |= ring;//'
mutant completions.rs 'rung twice when asked to look' \
	'/pub fn ring_for_waiting/,/^    }/s/state\.bell\.rung |= ring;//'
mutant completions.rs 'rung though nobody wants it' \
	'/pub fn push/,/^    }/s/state\.bell\.wanted && !state\.bell\.rung/!state.bell.rung/'
mutant completions.rs 'what waits already is not rung for' \
	'/pub fn want_bell/,/^    }/s/!state\.queue\.is_empty() && !state\.bell\.rung/false/'
mutant completions.rs 'silenced while completions wait' \
	'/^fn take_from/,/^}/s/if state\.queue\.is_empty() {/if true {/'
mutant completions.rs 'still called rung when silenced' \
	'/^fn take_from/,/^}/s/state\.bell\.rung = false;//'
mutant completions.rs 'a byte that came late is never taken away' \
	's/self\.lock()\.bell\.debt += count;/self.lock().bell.debt += 0;/'
mutant completions.rs 'a debt is paid twice' \
	's/state\.bell\.debt = 0;//'
mutant completions.rs 'the last of a batch is lost' \
	's/state\.queue\.drain(\.\.count)\.for_each(each);/state.queue.drain(..count).take(2).for_each(each);/'

# ---- requests, copies, tokens ----------------------------------------------------------------

mutant request.rs 'unknown flags pass' \
	's/self\.flags & !FLAGS_KNOWN != 0/self.flags \& !(FLAGS_KNOWN | 32) != 0/'
mutant request.rs 'ZERO_PAD passes with EXACT' \
	's/pads && (self\.flags & EXACT != 0 ||/pads \&\& (/'
mutant request.rs 'a length without a file passes' \
	's/self\.file\.is_none() && self\.length != 0/false/'
mutant request.rs 'the last offset is refused' \
	's/if self\.offset > OFFSET_MAX/if self.offset >= OFFSET_MAX/'
mutant request.rs 'offset and length overflow' \
	's/if self\.length > OFFSET_MAX - self\.offset/if self.length > OFFSET_MAX/'
mutant request.rs 'the longest EXACT is refused' \
	's/self\.length > exact_max/self.length >= exact_max/'
mutant request.rs 'the longest header is refused' \
	's/if sum <= STAGED_MAX/if sum < STAGED_MAX/'
mutant request.rs 'one entry too many passes' \
	's/self\.header\.len() > IOVECS_MAX/self.header.len() > IOVECS_MAX + 1/'
mutant staging.rs 'what is given back still counts' \
	's/self\.used\.fetch_sub(bytes\.len() as u64, .*;//'
mutant staging.rs 'what was refused counts' \
	's/self\.used\.fetch_sub(size as u64, .*;//'
mutant staging.rs 'the limit is passed' \
	's/+ size as u64 > self\.limit {/> self.limit {/'
mutant staging.rs 'the trailer begins in the header' \
	's/self\.span(self\.header + from, length)/self.span(from, length)/'
mutant staging.rs 'a copy used again says what it said before' \
	's/sys::gather(request\.trailer, &mut bytes\[header\.\.\]);/if bytes[header] == 0 { & }/'
mutant token.rs 'a late completion passes for another one' \
	's/self\.0 as u32 == generation as u32/self.0 as u16 == generation as u16/'
mutant token.rs 'the slot is cut off' \
	's/& 0xff_ffff) as usize/\& 0xff_fff) as usize/'

echo "$killed killed, $bad not as they should be"
[ "$bad" = 0 ]
