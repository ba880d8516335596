/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Runs a command for which the kernel refuses some calls:
 *
 *   refuse io_uring EPERM|ENOSYS COMMAND [ARGUMENT...]      as containers and hardened systems do
 *   refuse pread EIO|nothing COMMAND [ARGUMENT...]          pread of 200,000 bytes and more: an error, as from a disk that
 *                                                           is failing, or 0, as from a file that has just been cut
 *
 * As root.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))

static const struct {
	const char *name;
	int error;
} answers[] = { { "EPERM", EPERM }, { "ENOSYS", ENOSYS }, { "EIO", EIO }, { "nothing", 0 } };

static int filter(struct sock_filter *code, size_t count)
{
	struct sock_fprog program = { .len = count, .filter = code };

	/* Not PR_SET_NO_NEW_PRIVS, which a server would not have either: root may do without. */
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

int main(int count, char **arguments)
{
	size_t answer = 0;
	int failed;

	while (count > 3 && answer < 4 && strcmp(arguments[2], answers[answer].name) != 0)
		answer++;
	if (count < 4 || answer == 4) {
		fprintf(stderr, "usage: refuse io_uring|pread EPERM|ENOSYS|EIO|nothing COMMAND [ARGUMENT...]\n");
		return 2;
	}
	struct sock_filter io_uring[] = {
		LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_enter, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_register, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | answers[answer].error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_filter pread[] = {
		LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pread64, 0, 3),
		LOAD(args[2]),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 200000, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | answers[answer].error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	if (strcmp(arguments[1], "pread") == 0)
		failed = filter(pread, sizeof pread / sizeof *pread);
	else
		failed = filter(io_uring, sizeof io_uring / sizeof *io_uring);
	if (failed) {
		perror("refuse: seccomp");
		return 1;
	}
	execvp(arguments[3], arguments + 3);
	perror(arguments[3]);
	return 127;
}
