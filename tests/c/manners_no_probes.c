/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A sandbox that kills at calls that only find something out, and at those of the ways that depend on them: with
 * SNAPSEND_PROBES=none in the environment the library makes none of them, and sends all the same. The control: without,
 * the sandbox kills. */
#include "data_common.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define LENGTH (MIB + 11)

static void forbid(void)
{
	enum { CACHESTAT = 451, STATMOUNT = 457 };
	static const long numbers[] = { CACHESTAT,      STATMOUNT,    SYS_mincore,       SYS_preadv2,
					SYS_kcmp,       SYS_fstatfs,  SYS_readahead,
#ifdef SYS_readlink
					SYS_readlink,
#endif
					SYS_readlinkat, SYS_sendfile, SYS_rt_sigpending, SYS_rt_sigtimedwait };
	struct sock_filter filter[2 * COUNT_OF(numbers) + 2];
	size_t n = 0;
	filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < COUNT_OF(numbers); i++) {
		filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)numbers[i], 0, 1);
		filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	}
	filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { .len = (unsigned short)n, .filter = filter };
	SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		skip("no seccomp here");
}

/* So many descriptors that the library would like to know which of them are the same open file. */
static void many(snapsend_t *ctx, int file)
{
	enum { MANY = 150 };
	static int sv[MANY][2];
	uint64_t ids[MANY];
	for (int i = 0; i < MANY; i++) {
		unix_pair(sv[i]);
		struct snapsend_request request = make_request(sv[i][0], file, 0, LENGTH);
		ids[i] = submit_ok(ctx, &request);
	}
	for (int i = 0; i < MANY; i++) {
		struct reader reader;
		reader_start_check(&reader, sv[i][1], LENGTH, 0, 8);
		wait_done(ctx, ids[i], NULL);
		reader_join(&reader);
		close_pair(sv[i]);
	}
}

/* Nothing goes by reference, and no clone is tried. */
static void in_memory(snapsend_t *ctx, int file, const unsigned char *image)
{
	int sv[2];
	struct snapsend_info info;
	struct snapsend_stats stats;
	CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
	tcp_pair(sv);
	set_nonblock(sv[0]);
	struct snapsend_request request = make_request(sv[0], file, 0, info.exact_max + 1);
	request.flags = SNAPSEND_EXACT;
	CHECK_EQ(snapsend_submit(ctx, &request, sizeof request, NULL), -EMSGSIZE);
	every_way(ctx, sv, file, image, LENGTH, NULL, NULL, NULL);
	CHECK_EQ(snapsend_get_stats(ctx, &stats, sizeof stats), 0);
	CHECK_UEQ(stats.bytes_frozen + stats.snapshots_cloned, 0);
	close_pair(sv);
}

static int sealed(const unsigned char *image)
{
	int file = (int)SYS(memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	file_put(file, 0, image, LENGTH);
	SYS(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW));
	return file;
}

static int sandboxed(void)
{
	int sv[2], file = temp_file(LENGTH, 8);
	unsigned char *image = image_of(0, LENGTH, 8);
	int frozen = sealed(image);
	tcp_pair(sv);
	forbid();
	snapsend_t *ctx = create_ctx();
	every_way(ctx, sv, file, image, LENGTH, NULL, NULL, NULL);
	in_memory(ctx, frozen, image);
	many(ctx, file);
	destroy_ctx(ctx);
	free(image);
	return 0;
}

int main(int argc, char **argv)
{
	int status;
	(void)argv;
	if (argc > 1)
		return sandboxed();
	for (int probes = 0; probes < 2; probes++) {
		doing(probes ? "with probes" : "without");
		pid_t pid = (pid_t)SYS(fork());
		if (pid == 0) {
			/* The environment is read when the library is loaded. */
			if (!probes)
				setenv("SNAPSEND_PROBES", "none", 1);
			execl("/proc/self/exe", "manners_no_probes", "sandboxed", (char *)NULL);
			_exit(2);
		}
		SYS(waitpid(pid, &status, 0));
		if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
			test_leave(WEXITSTATUS(status));
		if (probes)
			CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
		else
			CHECK(WIFEXITED(status));
	}
	return 0;
}
