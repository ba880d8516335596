/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Runs a command for which the kernel refuses io_uring, as containers and hardened systems do:
 *
 *   refuse_io_uring EPERM|ENOSYS COMMAND [ARGUMENT...]      as root
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int count, char **arguments)
{
	int error = count > 1 && strcmp(arguments[1], "EPERM") == 0 ? EPERM : ENOSYS;
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_enter, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_register, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof code / sizeof *code, .filter = code };

	if (count < 3 || (error == ENOSYS && strcmp(arguments[1], "ENOSYS") != 0)) {
		fprintf(stderr, "usage: refuse_io_uring EPERM|ENOSYS COMMAND [ARGUMENT...]\n");
		return 2;
	}
	/* Not PR_SET_NO_NEW_PRIVS, which a server would not have either: root may do without. */
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
		perror("refuse_io_uring: seccomp");
		return 1;
	}
	execvp(arguments[2], arguments + 2);
	perror(arguments[2]);
	return 127;
}
