/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A server that forks a child for each client: children.c COUNT forks so many, one after another, each of which sends
 * 100 bytes. Prints what a call of the first and of the last of them took, in microseconds (medians).
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LOOKED_AT = 100 };

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 0;
	int file = open("/proc/self/exe", O_RDONLY);
	double *took =
		mmap(NULL, 2 * LOOKED_AT * sizeof *took, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (file < 0 || took == MAP_FAILED || count < 2 * LOOKED_AT)
		return 2;
	for (int i = 0; i < count; i++) {
		pid_t child = fork();
		if (child == 0) {
			int sv[2];
			off_t at = 0;
			if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) != 0)
				_exit(1);
			double begin = now();
			if (sendfile(sv[0], file, &at, 100) != 100)
				_exit(1);
			if (i < LOOKED_AT)
				took[i] = now() - begin;
			else if (i >= count - LOOKED_AT)
				took[2 * LOOKED_AT - (count - i)] = now() - begin;
			_exit(0);
		}
		int status;
		if (waitpid(child, &status, 0) != child || status != 0)
			return 1;
	}
	qsort(took, LOOKED_AT, sizeof *took, compare);
	qsort(took + LOOKED_AT, LOOKED_AT, sizeof *took, compare);
	printf("%.1f %.1f\n", took[LOOKED_AT / 2], took[LOOKED_AT + LOOKED_AT / 2]);
	return 0;
}
