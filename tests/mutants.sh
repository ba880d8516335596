#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Shows that the tests notice what they should: puts one small mistake at a time into a copy of the
# sources and demands that the tests named for it fail.  First those of the pure parts, which the
# model tests (src/tests/) must catch, and those of the doorbell and the completion queue, which loom
# must catch (tests/loom); then those that break a promise of the header, which C tests, torture or
# chaos must catch (docs/GUARANTEES.md).  Run by hand (make test-mutants), half an hour:
#
#   tests/mutants.sh [pattern of file or description]
#
# Fails when a mutant survives, does not compile, or its place in the source is not found any more,
# and when one of the tests fails without any mutation.

set -u
cd "$(dirname "$0")/.."
root=$PWD
only=${1:-}

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
# Newer than what an earlier run has left, which is one with a mistake in it: cargo goes by that.
tar --exclude=./target --exclude=./.git -c . | tar -x -m -C "$tree"

# What matters here is the time to compile.
target=$("$root/build/target-dir")/mutants
export CARGO_TARGET_DIR=$target SNAPSEND_TARGET=$target
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

# Puts a mistake in, demands that it builds and that the tests fail, and takes it out again.  BUILD, TESTS and
# MESSAGE are commands; MESSAGE says what the failing test said, BY is printed where none failed.
# mutate FILE DESCRIPTION SED-SCRIPT BUILD TESTS MESSAGE BY
mutate() {
	local file=$1 what=$2 script=$3 build=$4 tests=$5 message=$6 by=$7
	sed -e "$script" "$root/src/$file" >"$tree/mutated"
	if cmp -s "$root/src/$file" "$tree/mutated"; then
		say 'NO PLACE' "$file" "$what" ''
		bad=$((bad + 1))
		return
	fi
	cat "$tree/mutated" >"$tree/src/$file"
	# The commands' words are their arguments.
	# shellcheck disable=SC2086
	if ! $build; then
		say 'NO BUILD' "$file" "$what" "$(grep -m1 '^error' "$log")"
		bad=$((bad + 1))
	elif $tests; then
		say SURVIVED "$file" "$what" "$by"
		bad=$((bad + 1))
	else
		say killed "$file" "$what" "$($message)"
		killed=$((killed + 1))
	fi
	cat "$root/src/$file" >"$tree/src/$file"
}

panic_message() {
	grep -m1 -A1 ' panicked at ' "$log" | tail -1 | cut -c1-70
}

# mutant FILE DESCRIPTION SED-SCRIPT
mutant() {
	local file=$1 what=$2 script=$3 part=$1
	[[ "$file $what" == *"$only"* ]] || return 0
	case $file in
	types/request.rs | handoff/staging.rs | decide/token.rs) part=edges.rs ;;
	esac
	mutate "$file" "$what" "$script" compiles "model_tests tests::$(basename "$part" .rs)::" panic_message ''
}

# loom's tests, which are a package of their own.
loom_tests() {
	(cd "$tree" && CARGO_TARGET_DIR=$CARGO_TARGET_DIR/loom \
		timeout 300 cargo test --release --quiet --manifest-path tests/loom/Cargo.toml "$@") >"$log" 2>&1
}

loom_message() {
	echo "loom: $(panic_message)"
}

loom_is_well=no

# races FILE DESCRIPTION SED-SCRIPT: as mutant, for loom.
races() {
	local file=$1 what=$2 script=$3
	[[ "$file $what" == *"$only"* ]] || return 0
	if [ $loom_is_well = no ] && ! loom_tests; then
		tail -40 "$log"
		echo "loom's tests fail without any mutation"
		exit 1
	fi
	loom_is_well=yes
	mutate "$file" "$what" "$script" 'loom_tests --no-run' loom_tests loom_message loom
}

# ---- the second half: the library as a whole ---------------------------------------------------

# A test: the name of one in tests/c, torture or chaos.
one_test() {
	case $1 in
	torture) tests/run-stress torture --megabytes 2000 --seed 1 ;;
	chaos) tests/run-stress chaos --operations 60000 --seed 1 ;;
	faults_*) TEST_TIMEOUT=150 tests/run-c-tests --lib "$LIB" "$1" ;;
	*) TEST_TIMEOUT=40 tests/run-c-tests --lib "$LIB" "$1" ;;
	esac >"$log" 2>&1
}

library_tests() {
	local name
	export LIB=$CARGO_TARGET_DIR/release OUT=$CARGO_TARGET_DIR/c-tests
	for name in "$@"; do
		one_test "$name" || { caught_by=$name; return 1; }
	done
}

build_library() {
	(cd "$tree" && cargo build --release --quiet --lib) >"$log" 2>&1
}

test_message() {
	echo "$caught_by: $(grep -m1 -o 'FAIL: .*\|(time limit)\|(signal.*' "$log" | cut -c1-70)"
}

declare -A baseline=()
first_pass=yes

# breaks FILE PROMISE-BROKEN SED-SCRIPT TEST...: at least one of the tests must fail.
breaks() {
	local file=$1 what=$2 script=$3
	shift 3
	[[ "$file $what" == *"$only"* ]] || return 0
	if [ $first_pass = yes ]; then
		for name in "$@"; do baseline[$name]=1; done
		return
	fi
	mutate "$file" "$what" "$script" build_library "library_tests $*" test_message "$*"
}

without_mutation() {
	[ ${#baseline[@]} = 0 ] && return
	if ! build_library || ! library_tests "${!baseline[@]}"; then
		tail -20 "$log"
		echo "$caught_by fails without any mutation"
		exit 1
	fi
}

if ! model_tests tests::; then
	tail -40 "$log"
	echo "the model tests fail without any mutation"
	exit 1
fi

# ---- operation -------------------------------------------------------------------------------

mutant decide/operation.rs 'trailer bytes count as the range' \
	'/pub fn range_sent/,/}/s/\.min(self\.range)//'
mutant decide/operation.rs 'more is sent than is at hand' \
	's/\.min(available)\.min(chunk));/.min(chunk));/'
mutant decide/operation.rs 'more is sent than a chunk' \
	's/\.min(available)\.min(chunk));/.min(available));/'
mutant decide/operation.rs 'the header is sent again' \
	's/let header_sent = .*;/let header_sent = 0;/'
mutant decide/operation.rs 'the trailer goes before the padding is complete' \
	's/if reached + portion\.zeros == self\.range/if reached + portion.zeros <= self.range/'
mutant decide/operation.rs 'more zeros than there are' \
	's/(self\.range - reached)\.min(PADDING_MAX)/self.range - reached/'
mutant decide/operation.rs 'EXACT sends before all is held' \
	's/return self\.held >= self\.file_length;/return self.held > 0 || self.file_length == 0;/'
mutant decide/operation.rs 'the header goes ahead of the data' \
	's/self\.range_sent() >= self\.file_length || available > 0/self.wire == 0 || &/'
mutant decide/operation.rs 'the size is not looked at before the start' \
	's/if available < self\.range {/if false {/'
mutant decide/operation.rs 'a short file is padded though nobody asked' \
	's/else if self\.task\.flags & ZERO_PAD != 0/else if self.task.flags \& MORE != 0/'
mutant decide/operation.rs 'ZERO_PAD fails on a short file' \
	's/else if self\.task\.flags & ZERO_PAD != 0/else if false/'
mutant decide/operation.rs 'TO_EOF of a file that shrinks forgets what was sent' \
	's/self\.set_end(available\.max(self\.range_sent()))/self.set_end(available)/'
mutant decide/operation.rs 'TO_EOF does not end early' \
	's/self\.set_end(available\.max(self\.range_sent()))/return/'
mutant decide/operation.rs 'the end of the file is read past' \
	's/self\.short(at);/let _ = at;/'
mutant decide/operation.rs 'zeros from beyond the end of a mapped file pass for data' \
	's/if available < self\.file_length {/if false {/'
mutant decide/operation.rs 'ends while a send is with the kernel' \
	's/Phase::Ending(status) if !self\.reading && !self\.sending/Phase::Ending(status) if !self.reading/'
mutant decide/operation.rs 'ends while a read is with the kernel' \
	's/Phase::Ending(status) if !self\.reading && !self\.sending/Phase::Ending(status) if !self.sending/'
mutant decide/operation.rs 'a later failure replaces the first' \
	'/pub fn fail/,/^    }/s/if !matches.*{/if true {/'
mutant decide/operation.rs 'two reads at once' \
	's/self\.phase != Phase::Running || self\.reading {/self.phase != Phase::Running {/'
mutant decide/operation.rs 'two sends at once' \
	's/self\.phase != Phase::Running || self\.sending ||/self.phase != Phase::Running ||/'
mutant decide/operation.rs 'what was given up counts as held' \
	'/pub fn forget_held/,/}/s/self\.held = .*;//'
mutant decide/operation.rs 'reads further ahead than it may' \
	's/waiting < ahead/waiting <= ahead/'
mutant decide/operation.rs 'the snapshot is reported twice' \
	's/self\.snapshot_told |= due;//'
mutant decide/operation.rs 'the snapshot is reported unasked' \
	's/let due = self\.task\.flags & NOTIFY_SNAPSHOT != 0$/let due = self.task.flags \& (NOTIFY_SNAPSHOT | MORE) != 0/'
mutant decide/operation.rs 'the snapshot is reported of data that may be read again' \
	's/let snapshotted = if keeps {/let snapshotted = if true {/'
mutant decide/operation.rs 'the snapshot of EAGER waits for the peer' \
	's/let snapshotted = if keeps {/let snapshotted = if false {/'
mutant decide/operation.rs 'the snapshot is reported before it is taken' \
	's/&& snapshotted >= self\.file_length;/\&\& snapshotted + 1 >= self.file_length;/'
mutant decide/operation.rs 'the snapshot is not reported at the end' \
	's/matches!(self\.phase, Phase::Running | Phase::Ending(0))/self.phase == Phase::Running/'
mutant decide/operation.rs 'the last bytes are held back with MSG_MORE' \
	's/self\.wire + portion\.len() < self\.total()/self.wire + portion.len() <= self.total()/'
mutant decide/operation.rs 'MSG_MORE goes with what nothing follows at once' \
	's/let follows = is_at_hand \&\& /let follows = /'
mutant decide/operation.rs 'what is held back is not let go at the end' \
	's/^        self\.sent_more \&\& matches/        self.sending_more \&\& matches/'
mutant decide/operation.rs 'MORE is forgotten' \
	's/portion\.more = self\.task\.flags & MORE != 0 ||/portion.more =/'
mutant decide/operation.rs 'copied data is not called copied' \
	'/range_sent() > before/,/}/s/self\.was |= was as u8;//'
mutant decide/operation.rs 'padding is not called padding' \
	's/self\.was |= WAS_PADDED as u8;//'
mutant decide/operation.rs 'a stream that is untouched is called cut' \
	's/if status < 0) && self\.wire > 0/if status < 0)/'

# ---- schedule --------------------------------------------------------------------------------

mutant decide/schedule.rs 'a socket stands in the line twice' \
	'/pub fn ready/,/^    }/s/queue\.standing == Standing::Idle/queue.standing != Standing::Parked/'
mutant decide/schedule.rs 'the last in the line has its turn first' \
	's/self\.line\.pop(&mut self\.sockets)/{ let last = optional(self.line.last); if let Some(last) = last { self.line.remove(\&mut self.sockets, last); } last }/'
mutant decide/schedule.rs 'the last of those with little to send has its turn first' \
	's/self\.light\.pop(&mut self\.sockets)/{ let last = optional(self.light.last); if let Some(last) = last { self.light.remove(\&mut self.sockets, last); } last }/'
mutant decide/schedule.rs 'those with little to send have all turns' \
	's/let may_be_light = .*;/let may_be_light = true;/'
mutant decide/schedule.rs 'those with little to send wait behind the others' \
	's/let may_be_light = .*;/let may_be_light = !others_wait;/'
mutant decide/schedule.rs 'a socket keeps its place after its turn' \
	'/pub fn next_turn/,/^    }/s/self\.sockets\[socket\]\.standing = .*;//'
mutant decide/schedule.rs 'what is to go ahead goes behind' \
	's/        if front {/        if false {/'
mutant decide/schedule.rs 'the link back to a new first one is missing' \
	's/behind => self\.links\[behind as usize\]\.before = new,/_ => {}/'
mutant decide/schedule.rs 'removing the last one leaves it the last' \
	's/NONE => queue\.last = link\.before,/NONE => {}/'
mutant decide/schedule.rs 'removing one from the middle cuts off those behind' \
	's/before => self\.links\[before as usize\]\.behind = link\.behind,/before => self.links[before as usize].behind = NONE,/'
mutant decide/schedule.rs 'a closed socket stays in the line' \
	'/fn leave_line/,/^    }/s/Standing::InLine => .*/Standing::InLine => {}/'
mutant decide/schedule.rs 'a closed socket with little to send stays in the line' \
	'/fn leave_line/,/^    }/s/Standing::InLightLine => .*/Standing::InLightLine => {}/'
mutant decide/schedule.rs 'a closed socket stays parked' \
	'/pub fn close/,/^    }/s/standing == Standing::Parked/standing == Standing::Idle/'
mutant decide/schedule.rs 'a closed socket is still found' \
	'/pub fn close/,/^    }/s/self\.sockets\.remove(socket);//'
mutant decide/schedule.rs 'a parked socket gets turns' \
	'/pub fn park/,/^    }/s/self\.leave_line(socket);//'
mutant decide/schedule.rs 'a socket let go gets no turn' \
	'/pub fn unpark/,/^    }/s/line\.push(sockets, socket as usize);//'

mutant decide/schedule.rs 'a socket held back for another reason is let go' \
	's/if parked_for == reason {/if true {/'
mutant decide/schedule.rs 'a socket let go is held back still' \
	's/            parked_for != reason$/            true/'

# ---- pool ------------------------------------------------------------------------------------

mutant ring/pool.rs 'leases overlap' \
	's/block\.taken\[page \/ 64\] |= bit;/let _ = bit;/'
mutant ring/pool.rs 'a run begins one page early' \
	's/page + 1 - start == pages/page + 2 - start == pages/'
mutant ring/pool.rs 'more is kept than may be' \
	's/purpose == Purpose::Kept && !self\.may_keep(bytes)/purpose == Purpose::Kept \&\& self.kept > self.kept_max()/'
mutant ring/pool.rs 'all of the pool may be kept' \
	's/kept_of(self\.block_size, self\.blocks\.len())/self.block_size * self.blocks.len() as u64/'
mutant ring/pool.rs 'what was kept is never free again' \
	's/if run\.purpose == Purpose::Kept {/if false {/'
mutant ring/pool.rs 'what was reserved is never free again' \
	's/self\.kept -= length;/let _ = length;/'
mutant ring/pool.rs 'what is reserved is counted twice' \
	's/        if purpose == Purpose::Kept {/        if purpose != Purpose::Passing {/'
mutant ring/pool.rs 'released while others still use it' \
	's/if run\.uses > 0 {/if run.uses > 1 {/'
mutant ring/pool.rs 'never released' \
	's/self\.mark(run\.block, run\.first, run\.pages, false);//'
mutant ring/pool.rs 'the sum of what is leased only grows' \
	's/self\.in_use -= bytes;//'
mutant ring/pool.rs 'a block in use is called idle' \
	's/is_some_and(|b| b\.free == total)/is_some_and(|b| b.free > 0)/'
mutant ring/pool.rs 'the pool grows beyond its limit' \
	's/memory::list(count)?/memory::list(count + 1)?/; s/resize_with(count,/resize_with(count + 1,/'

# ---- timers ----------------------------------------------------------------------------------

mutant decide/timers.rs 'too late by the last moment' \
	's/timer\.at > self\.since/timer.at >= self.since/'
mutant decide/timers.rs 'given before its time' \
	's/timer\.at > self\.since_beginning(now)/timer.at > self.since_beginning(now) + 1_000_000/'
mutant decide/timers.rs 'compaction drops the living' \
	's/^                alive(id, slot)$/                !alive(id, slot)/'
mutant decide/timers.rs 'the dead are never dropped' \
	's/> 64 + 2 \* living/> 64_000 + 2 * living/'
mutant decide/timers.rs 'reasons are mixed up in the order' \
	's/| alarm as u64 }/| Alarm::Look as u64 \& alarm as u64 }/'

# ---- claims ----------------------------------------------------------------------------------

mutant handoff/claims.rs 'a claim on what is in use' \
	's/if usage\.is_claimed || usage\.operations > 0 {/if usage.is_claimed {/'
mutant handoff/claims.rs 'nobody is held back' \
	's/if !usage\.is_claimed || front {/if true {/'
mutant handoff/claims.rs 'the rest waits for its own claim' \
	's/if !usage\.is_claimed || front {/if !usage.is_claimed {/'
mutant handoff/claims.rs 'those held back are never told' \
	's/usage\.is_waited_for = true;/usage.is_waited_for = false;/'
mutant handoff/claims.rs 'a late notice takes the place of a later one' \
	's/if is_later(claim\.number, \*latest) {/if true {/'
mutant handoff/claims.rs 'an earlier claim frees what a later one holds back' \
	's/!is_later(claim\.number, latest)/latest > 0/'
mutant handoff/claims.rs 'a socket is in use for ever' \
	's/if last && !usage\.is_claimed {/if last \&\& usage.is_claimed {/'

# ---- plan ------------------------------------------------------------------------------------

mutant decide/plan.rs 'mapped though the end must be exact' \
	's/ && !known\.exact_end//'
mutant decide/plan.rs 'mapped though it cannot be' \
	's/known\.resident && known\.mappable/known.resident/'
mutant decide/plan.rs 'mapped though the disk would be waited for' \
	's/known\.resident && known\.mappable/known.mappable/'
mutant decide/plan.rs 'zero-copy without room to keep the data' \
	's/&& known\.pool_has_room//'
mutant decide/plan.rs 'zero-copy where it is useless' \
	's/ZeroCopy::Untried | ZeroCopy::Real)/ZeroCopy::Untried | ZeroCopy::Real | ZeroCopy::Useless)/'
mutant decide/plan.rs 'residency is never asked about' \
	's/choose(&Known { resident: true, \.\.\*known }) != .*/choose(known) != choose(known)/'

# ---- completions -----------------------------------------------------------------------------

mutant handoff/completions.rs 'rung for every batch' \
	'/pub fn push/,/^    }/s/state\.bell\.rung |= ring;//'
mutant handoff/completions.rs 'rung twice when asked to look' \
	'/pub fn ring_for_waiting/,/^    }/s/state\.bell\.rung |= ring;//'
mutant handoff/completions.rs 'rung though nobody wants it' \
	'/pub fn push/,/^    }/s/state\.bell\.wanted && !state\.bell\.rung/!state.bell.rung/'
mutant handoff/completions.rs 'what waits already is not rung for' \
	'/pub fn want_bell/,/^    }/s/!state\.queue\.is_empty() && !state\.bell\.rung/false/'
mutant handoff/completions.rs 'silenced while completions wait' \
	'/^fn take_from/,/^}/s/if state\.queue\.is_empty() {/if true {/'
mutant handoff/completions.rs 'still called rung when silenced' \
	'/^fn take_from/,/^}/s/state\.bell\.rung = false;//'
mutant handoff/completions.rs 'a byte that came late is never taken away' \
	's/self\.lock()\.bell\.debt += count;/self.lock().bell.debt += 0;/'
mutant handoff/completions.rs 'a debt is paid twice' \
	's/state\.bell\.debt = 0;//'
mutant handoff/completions.rs 'the last of a batch is lost' \
	's/|packed| each(packed\.into())/|packed| if left > 0 { left -= 1; each(packed.into()) }/; s/^    let count = state\.queue\.drain/    let mut left = 2;\n&/'

# ---- the doorbell and the completion queue under loom -------------------------------------------

races handoff/doorbell.rs 'looks for work before it says that it sleeps' \
	's/^        self\.sleeping\.swap(1, Ordering::SeqCst);/        let found = has_work();\n&/; s/if has_work() {/if found {/'
races handoff/doorbell.rs 'what came before the bell is not in order when it is rung' \
	'/pub fn ring/,/^    }/s/Ordering::SeqCst/Ordering::Relaxed/'
races handoff/doorbell.rs 'what came before the bell is not in order when it sleeps' \
	's/self\.sleeping\.swap(1, Ordering::SeqCst);/self.sleeping.swap(1, Ordering::Relaxed);/'
races handoff/doorbell.rs 'it is called rung, and not woken' \
	's/        if slept {/        if false {/'
races handoff/doorbell.rs 'it is woken, and not called rung' \
	's/self\.sleeping\.swap(0, Ordering::SeqCst) == 1;/self.sleeping.load(Ordering::SeqCst) == 1;/'
races handoff/completions.rs 'a poll says too late that it waits' \
	'/pub fn take(/,/^    }/{s/^            self\.waiting\.fetch_add.*//; s/^            let left/            self.waiting.fetch_add(1, Ordering::SeqCst);\n&/; s/^            let sequence = .*//; s/futex_wait(&self\.sequence, sequence, left)/futex_wait(\&self.sequence, self.sequence.load(Ordering::SeqCst), left)/}'
races handoff/completions.rs 'a batch of two wakes one' \
	's/self\.wake(count);/self.wake(1.min(count));/'
races handoff/completions.rs 'the end wakes nobody' \
	's/self\.wake(u32::MAX >> 1);//'
races handoff/completions.rs 'the end comes between a look at it and the sleep' \
	'/pub fn close/,/^    }/{s/let state = self\.lock();//; s/drop(state);//; s/^        self\.sequence\.fetch_add.*//}'

# ---- requests, copies, tokens ----------------------------------------------------------------

mutant types/request.rs 'unknown flags pass' \
	's/self\.flags & !FLAGS_KNOWN != 0/self.flags \& !(FLAGS_KNOWN | 32) != 0/'
mutant types/request.rs 'ZERO_PAD passes with EXACT' \
	's/pads && (self\.flags & EXACT != 0 ||/pads \&\& (/'
mutant types/request.rs 'a length without a file passes' \
	's/self\.file\.is_none() && self\.length != 0/false/'
mutant types/request.rs 'the last offset is refused' \
	's/if self\.offset > OFFSET_MAX/if self.offset >= OFFSET_MAX/'
mutant types/request.rs 'offset and length overflow' \
	's/if self\.length > OFFSET_MAX - self\.offset/if self.length > OFFSET_MAX/'
mutant types/request.rs 'the longest EXACT is refused' \
	's/self\.length > exact_max/self.length >= exact_max/'
mutant types/request.rs 'the longest header is refused' \
	's/if sum <= STAGED_MAX/if sum < STAGED_MAX/'
mutant types/request.rs 'one entry too many passes' \
	's/self\.header\.len() > IOVECS_MAX/self.header.len() > IOVECS_MAX + 1/'
mutant handoff/staging.rs 'what is given back still counts' \
	'/pub fn release/,/^    }/s/self\.used\.fetch_sub(size as u64, .*;//'
mutant handoff/staging.rs 'what was refused counts' \
	'/fn take(/,/^    }/s/self\.used\.fetch_sub(size as u64, .*;//'
mutant handoff/staging.rs 'the limit is passed' \
	's/+ size as u64 > self\.limit {/> self.limit {/'
mutant handoff/staging.rs 'the trailer begins in the header' \
	's/self\.span(self\.header_length() + from, length)/self.span(from, length)/'
mutant handoff/staging.rs 'a copy used again says what it said before' \
	's/sys::gather(request\.trailer, into_trailer);/if into_trailer.first() == Some(\&0) { & }/'
mutant decide/token.rs 'a late completion passes for another one' \
	's/self\.0 as u32 == generation as u32/self.0 as u16 == generation as u16/'
mutant decide/token.rs 'the slot is cut off' \
	's/& 0xff_ffff) as usize/\& 0xff_fff) as usize/'

# ---- promises --------------------------------------------------------------------------------

promises() {
breaks ring/data.rs 'writes before submit are in the data' \
	's/= (offset - align, file\.through_ring/= ((offset - align).saturating_sub(1), file.through_ring/' data_write_before
breaks ring/send.rs 'the kernel has let go of zero-copy data before it is used again' \
	'/pub(super) fn on_zero_copy_sent/,/^    }/s/        if !more {/        if true {/' torture
breaks decide/operation.rs 'SNAPSHOT comes after the snapshot' \
	's/&& snapshotted >= self\.file_length;/\&\& snapshotted >= self.file_length \/ 2;/' data_snapshot_event
breaks decide/operation.rs 'SNAPSHOT: nothing is read again after it' \
	's/let snapshotted = if keeps {/let snapshotted = if true {/' torture
breaks decide/operation.rs 'SNAPSHOT of EAGER comes at the pace of the disk' \
	's/let snapshotted = if keeps {/let snapshotted = if false {/' data_eager_stalled
breaks ring/mod.rs 'DONE once' \
	'/fn report_done/,/^    }/s/self\.report(Entry { completion, cut });/for _ in 0..1 + u32::from(job.id % 500 == 0) { & }/' chaos
breaks ring/mod.rs 'DONE always' \
	'/fn report_done/,/^    }/s/self\.report(Entry { completion, cut });/if job.id % 500 != 0 { & }/' many_threads_submit
breaks ring/mod.rs 'DONE for those behind one that is cut off' \
	's/let behind = if is_cut {/let behind = if false {/; s/if self\.shared\.is_behind_cut(job\.cookie, job\.id) {/if false {/' \
	data_queue_cut
breaks ring/mod.rs 'cancel_socket with one that is cut off' \
	'/Question::CancelSocket/,/^    }/s/next\.filter(|&slot| self\.jobs\.contains(slot))/next/' cancel_by_socket_cut
breaks ring/mod.rs 'operations go out in the order submitted' \
	's/self\.schedule\.enqueue(socket, slot, front)/self.schedule.enqueue(socket, slot, true)/' data_order
breaks handoff/claims.rs 'a calling thread does not get ahead of what is queued' \
	's/if usage\.is_claimed || usage\.operations > 0 {/if usage.is_claimed {/' \
	order_try_send order_many_threads
breaks ring/mod.rs 'nothing follows behind a cut' \
	's/if self\.shared\.is_behind_cut(job\.cookie, job\.id) {/if false {/' data_queue_cut chaos
breaks ring/job.rs 'wire_bytes is exact' \
	's/wire_bytes: self\.operation\.wire(),/wire_bytes: self.operation.wire() + u64::from(status < 0 \&\& self.operation.wire() > 0),/' chaos
breaks decide/operation.rs 'EXACT sends nothing before it has all' \
	's/return self\.held >= self\.file_length;/return self.held > 0 || self.file_length == 0;/' data_exact_first_byte
breaks ring/mod.rs 'a number that is a different socket by now gets no byte' \
	'/fn is_other_socket/,/^    }/s/if self\.engine\.kernel()\.cookie(fd) != Ok(cookie) {/if false {/' manners_reuse_socket
breaks handoff/port.rs 'a number that is a different file by now gives no byte' \
	's/if (state\.kind, state\.inode) != (self\.kind, self\.inode) {/if false {/' manners_reuse_file
breaks sys.rs 'O_NONBLOCK stays as it is' \
	'/pub fn is_listening/,/^}/s/    Ok(/    unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };\n    Ok(/' data_socket_mode
breaks sys.rs 'the file position stays as it is' \
	'/pub fn file_state_without_sync(/,/^}/s/^            Ok(/            unsafe { libc::lseek(fd, 1, libc::SEEK_CUR) };\n            Ok(/' data_file_position
breaks sys.rs 'signal handlers do not run on the ring thread' \
	'/pub fn spawn/,/^    }/s/let _blocked = .*;//' signals_blocked manners_signals
breaks sys.rs 'no SIGPIPE' \
	's/let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;/let flags = flags | libc::MSG_DONTWAIT;/' no_sigpipe
breaks sys.rs 'errno stays as it is' \
	'/impl Drop for KeepErrno/,/^}/s/set_errno(self\.0);//' errno_untouched
breaks ffi/cancellation.rs 'a cancelled thread meets no frame of Rust' \
	's/PTHREAD_CANCEL_DISABLE: c_int = 1/PTHREAD_CANCEL_DISABLE: c_int = 0/' cancellation
breaks handoff/completions.rs 'a cancelled poll passes its wake-up on' \
	'/pub fn abandon_wait/,/^    }/s/self\.wake(1);//' cancellation
breaks sys.rs 'record locks stay' \
	'/^fn unshare_table/,/^}/s/^    let close_range/    return Ok(());\n    #[allow(unreachable_code)]\n    let close_range/' data_lock_posix descriptors_cloexec
breaks ring/mod.rs 'nothing of the file is kept after DONE' \
	'/    fn release(/,/^    }/s/self\.close_file(file\.entry as usize)/None.filter(|_: \&Token| file.entry > 0)/' data_unmount data_fuse_unmount
breaks engine/known_files.rs 'a mapping is sent only where it is what read shows' \
	's/            FileSystem::Remote$/            FileSystem::Mapped/' data_overlay_copied_up
breaks engine/helpers.rs 'one file system leaves the helpers to others' \
	's/self\.jobs\.len()\.min(THREADS_FOR_EACH - self\.running)/self.jobs.len()/; s/let most = if has_none { THREADS_MAX }/let most = if has_none { THREADS_FOR_ALL }/; s/facts\.mount\.number() << 8 | part/part/' data_fuse_hung
breaks ring/slow.rs 'what has ended does not wait for a read' \
	's/from_millis(50)/from_secs(3600)/' data_fuse_hung data_fuse_stopped data_fanotify
breaks ring/slow.rs 'a hung file system leaves the pool to others' \
	's/if reads\.count > 0 \&\& (/if false \&\& (/' data_fuse_hung
breaks ring/slow.rs 'a copy is closed where that may take long' \
	's/if self\.shared\.known_files\.file_system(facts\.kind, facts\.mount)\.is_local() {/if true {/' data_fuse_stopped
breaks engine/known_files.rs 'a file that is not known to be quick is asked by others' \
	's/ \&\& self\.is_quick(file\.inode)$//' data_fanotify
breaks sys.rs 'SNAPSEND_PROBES=none: no probe' \
	's/value\.is_null() || .*/true/' manners_no_probes
breaks ring/send.rs 'a slow peer holds no file data' \
	's/from_millis(50)/from_secs(3600)/' data_stalled_holds_nothing
breaks decide/budget.rs 'zero-copy comes back when there is memory to pin again' \
	's/let may_try = || .*/let may_try = || { let _ = (now(), self.trying, self.try_at); false };/' memlock_zero_copy
breaks decide/pace.rs 'a wait costs a few wake-ups a second, whatever the socket reports' \
	's/self\.wants_changes |= self\.reports > 0;//; s/self\.reports < REPORTS_MAX/self.reports < u32::MAX/' data_wait_paced
breaks decide/pace.rs 'a socket that takes nothing is tried a few times a second' \
	's/^    pause\.min(to)/    pause.min(to) \/ 1000/' faults_wait_paced
breaks ring/job.rs 'at most 512 bytes for each operation' \
	's/            begun: false,/            begun: std::hint::black_box(vec![1u8; 2000]).leak().is_empty(),/' data_pending_10000
breaks ring/data.rs 'small pools: what passes finds what is left' \
	's/{ KEPT_READ_MIN } else { PAGE };/{ KEPT_READ_MIN } else { KEPT_READ_MIN };/' data_pool_small
breaks ring/data.rs 'small pools: EXACT with its room does not wait for such room' \
	's/if job\.is_held() && job\.reserved\.is_none() {/if job.is_held() {/' data_pool_small
breaks ring/data.rs 'small pools: EAGER in both lines goes on' \
	's/                    job\.passing = passing;//' data_pool_small
breaks ring/data.rs 'EAGER and EXACT behind others leave them the room that they need' \
	's/if held \&\& !job\.may_hold || /if /' data_pool_behind
breaks context.rs 'the id is written before the completion can be seen' \
	'/fn push(/,/^    }/{s/^        ids(id);//; s/            return Ok(());/            ids(id + 1);\n&/}' user_data_ids
breaks context.rs 'a forked child is told -ECHILD' \
	'/pub fn check_process/,/^    }/s/if self\.mark\.is_own_process()/if true/' fork_inherited
breaks ring/thread.rs 'after destroy the process has a single thread again' \
	's/^            sys::wait_until_gone(.*/            let _ = self.id;/' destroy_single_thread
breaks engine/uring.rs 'a ring outlives its context until peers have acknowledged' \
	's/^            kept::keep(.*//' destroy_unacknowledged
breaks ring/thread.rs 'destroy ends what is in flight' \
	's/self\.driver\.fail_all(-libc::ECANCELED);//' destroy_in_flight
breaks ring/mod.rs 'timeout_ms ends an operation' \
	's/Alarm::Deadline => .*/Alarm::Deadline => {}/' timeout_ms
breaks ring/mod.rs 'cancel says -ENOENT of what has ended' \
	'/Question::Cancel(id) => match/,/},/s/None => 0,/None => 1,/' cancel_unknown
breaks ring/job.rs 'a file that is cut while it is mapped does not pass zeros off' \
	'/fn available_in_file/,/^    }/s/let (Source::Window(_), Some(file)) = (\(.*\)) else {/let (Source::Window(_), Some(file), true) = (\1, self.id == 0) else {/' \
	data_truncate_race
breaks decide/operation.rs 'TO_EOF ends early with 0 where the file shrinks' \
	's/self\.set_end(available\.max(self\.range_sent()))/self.fail(-libc::ENODATA)/' data_truncate_to_eof
breaks decide/operation.rs 'ZERO_PAD fills up' \
	's/else if self\.task\.flags & ZERO_PAD != 0/else if false/' data_zero_pad
breaks decide/operation.rs 'nothing stays in the socket for want of more' \
	's/let follows = is_at_hand \&\& /let follows = /; s/^        self\.sent_more \&\& matches/        false \&\& self.sent_more \&\& matches/' data_held_back
breaks decide/operation.rs 'MORE is passed on' \
	's/portion\.more = self\.task\.flags & MORE != 0 ||/portion.more =/' data_more
breaks types/stats.rs 'each DONE is counted in one of three' \
	's/status if status == -libc::ECANCELED => &self\.cancelled,/status if status == -libc::ECANCELED => \&self.done_ok,/' stats_add_up
breaks handoff/shared.rs 'past max_ops -EAGAIN' \
	's/(taken < self\.settings\.max_ops)/(taken < self.settings.max_ops + 1)/' max_ops_one queue_full
breaks handoff/completions.rs 'the event descriptor is readable while completions wait' \
	'/^fn take_from/,/^}/s/if state\.queue\.is_empty() {/if true {/' event_fd
breaks handoff/completions.rs 'poll gives -EINTR when a handler ran' \
	's/Err(error) => return Err(error),/Err(_) => {}/' poll_eintr
breaks ffi/copy.rs 'an unknown tail that is not zero gives -E2BIG' \
	's/tail\.iter()\.any(|&byte| byte != 0)/false \&\& tail.is_empty()/' request_sizes options_sizes
breaks ffi/copy.rs 'the tail of a longer struct is zeroed' 's/^        ptr::write_bytes.*//' info_stats_sizes
breaks types/request.rs 'unknown flags give -EINVAL' \
	's/self\.flags & !FLAGS_KNOWN != 0/false/' unknown_flags
breaks context.rs 'a listening socket gives -ENOTCONN' \
	'/fn check_socket/,/^    }/s/if sys::is_listening(socket)? {/if false {/' documented_errors
breaks context.rs 'a file not open for reading gives -EBADF' \
	'/fn check_file/,/^    }/s/if flags & libc::O_ACCMODE == libc::O_WRONLY || .* {/if false {/' wrong_descriptors
breaks ring/mod.rs 'the library lets go of sockets' \
	'/fn close_socket/,/^    }/s/if let Some(state) = self\.sockets\[socket\]\.take() {/if let Some(state) = self.sockets[socket].take() { let state = std::mem::ManuallyDrop::new(state);/' data_fin
breaks ring/mod.rs 'destroy leaves no memory, descriptor or thread' \
	's/let mut job = self\.jobs\.remove(slot);/let mut job = self.jobs.remove(slot); if job.id % 50 == 0 { std::hint::black_box(vec![1u8; 9000]).leak(); }/' chaos
breaks decide/operation.rs 'SNAPSHOT comes once' \
	's/self\.snapshot_told |= due;//' data_notify
breaks decide/operation.rs 'SNAPSHOT comes only where asked for' \
	's/let due = self\.task\.flags & NOTIFY_SNAPSHOT != 0$/let due = true/' data_notify
breaks ring/send.rs 'errors of the socket are passed on' \
	's/job\.operation\.send_failed(result);/job.operation.send_failed(-libc::EIO);/' data_peer_reset data_half_close
breaks ring/data.rs 'errors of the file are passed on' \
	's/=> job\.operation\.read_failed(result),/=> job.operation.read_failed(-libc::EINVAL),/' data_io_error data_fuse_error
breaks ring/send.rs 'an interrupted send goes on' \
	'/libc::EINTR => {/,/}/s/self\.proceed(slot);/self.settle(slot);/' faults_one_at_a_time
breaks context.rs 'a number that is not the own descriptor any more gives -EBADF' \
	's/if sys::socket_cookie(number) == Ok(self\.own_cookie) {/if number >= 0 {/' close_all_descriptors manners_closefrom_in_flight
breaks decide/operation.rs 'flags say what was copied' \
	'/range_sent() > before/,/}/s/self\.was |= was as u8;//' completion_fields
breaks decide/operation.rs 'flags say what was padded' \
	's/self\.was |= WAS_PADDED as u8;//' data_zero_pad
breaks sys.rs 'header and trailer are copied as they are' \
	's/into\[at\.\.at + bytes\.len()\]\.copy_from_slice(bytes);/into[..bytes.len()].copy_from_slice(bytes);/' data_header
breaks types/request.rs 'header and trailer have their limit' \
	's/if sum <= STAGED_MAX/if sum <= 2 * STAGED_MAX/' data_header_limits
breaks ring/job.rs 'offsets beyond 4 GiB' \
	's/kernel\.map(file\.fd, offset + start, length)/kernel.map(file.fd, (offset + start) \& 0xffff_ffff, length)/' \
	data_over_4gib
breaks sys.rs 'no call waits for the peer' \
	's/let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;/let flags = flags | libc::MSG_NOSIGNAL;/' try_send
breaks ring/mod.rs 'the completion of send goes to its caller alone' \
	'/self\.answers\.push((reply, completion));/,/}/s/            return;//' send_blocking
breaks context.rs 'submit_many says how many were queued' \
	's/Some(error) if queued == 0 => return Err(error),/Some(error) => return Err(error),/' submit_many
breaks decide/schedule.rs 'sockets take turns' \
	's/self\.line\.pop(&mut self\.sockets)/{ let last = optional(self.line.last); if let Some(last) = last { self.line.remove(\&mut self.sockets, last); } last }/' data_fair_big data_fair_many
breaks ffi/copy.rs 'NULL gives -EFAULT' \
	's/if from\.is_null() {/if false {/' null_pointers
breaks types/request.rs 'a range that no file can have is refused' \
	's/if self\.length > OFFSET_MAX - self\.offset/if self.length > OFFSET_MAX/' range_overflow
breaks ffi/mod.rs 'structs are laid out as the header says' \
	'/pub struct snapsend_completion/,/^}/{s/pub file_bytes: u64/pub other: u64/; s/pub wire_bytes: u64/pub file_bytes: u64/; s/pub other: u64/pub wire_bytes: u64/}' \
	completion_fields
breaks ffi/mod.rs 'events have the values of the header' \
	's/pub const SNAPSEND_EVENT_SNAPSHOT: u32 = 1;/pub const SNAPSEND_EVENT_SNAPSHOT: u32 = 2;/' data_notify
breaks ring/thread.rs 'where io_uring is refused it goes without' \
	's/Err(error) => engine_errno = error\.negative(),/Err(error) => return report.give(Err(error)),/' \
	manners_seccomp_uring manners_uring_disabled
breaks types/options.rs 'options out of range give -EINVAL' \
	's/if max_ops > MAX_OPS_MAX/if max_ops > 2 * MAX_OPS_MAX/' bad_engine_option max_ops_defaults_info
breaks types/options.rs 'SNAPSEND_ENGINE is for AUTO alone' \
	's/            chosen => chosen,/            _ => engine_from_environment()?,/' default_engine_env
breaks ring/send.rs 'no request moves more than chunk_bytes' \
	's/INLINE_MAX\.min(self\.shared\.settings\.chunk_bytes)/INLINE_MAX/' chunk_bytes
breaks caller/inline.rs 'no zeros from behind the end of a file that is cut, on the calling thread' \
	's/mapped\.map_or(u64::MAX, |file| available(kernel, file, operation))/u64::MAX/' data_truncate_race
breaks caller/inline.rs 'a range of one piece needs no other thread' \
	's/(range <= INLINE_MAX || may_be_mapped(kernel, request))/range <= INLINE_MAX/' try_send
breaks handoff/shared.rs 'as many descriptors as RLIMIT_NOFILE allows, then -EMFILE' \
	'/pub fn take_descriptors/,/^    }/s/if used <= /if used > 0 || used <= /' descriptors_full
}

promises
without_mutation
first_pass=no
promises

echo "$killed killed, $bad not as they should be"
[ "$bad" = 0 ]
