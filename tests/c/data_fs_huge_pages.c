/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A memory file of huge pages (hugetlbfs), which cannot be mapped at steps of 4 KiB. */
#include "data_common.h"

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif
#define LENGTH (4 * MIB)

static int exercise(void)
{
	int file = memfd_create("snapsend-test", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB), sv[2];
	if (file < 0)
		skip("no huge page files");
	SYS(ftruncate(file, LENGTH));
	unsigned char *map = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (map == MAP_FAILED)
		skip("no huge pages");
	pattern_fill(map, 0, LENGTH, 47);
	unsigned char *image = image_of(0, LENGTH, 47);
	snapsend_t *ctx = create_ctx();
	tcp_pair(sv);
	every_way(ctx, sv, file, image, LENGTH, NULL, NULL, NULL);
	transfer_ok(ctx, sv, make_request(-1, file, 4097, 3 * MIB + 1), image + 4097, 3 * MIB + 1);
	transfer_ok(ctx, sv, make_request(-1, file, MIB + 1, SNAPSEND_TO_EOF), image + MIB + 1, 3 * MIB - 1);
	free(image);
	destroy_ctx(ctx);
	return 0;
}

static void put_number(int fd, int number)
{
	char text[16];
	int n = snprintf(text, sizeof text, "%d\n", number);
	if (pwrite(fd, text, (size_t)n, 0) < 0)
		printf("cannot set the number of huge pages\n");
}

/* The machine's huge pages are as before at the end, whatever happens: the test is a child process. */
int main(void)
{
	char text[16] = "";
	int status;
	root_or_skip();
	int fd = open("/proc/sys/vm/nr_hugepages", O_RDWR | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
		skip("no huge pages");
	put_number(fd, atoi(text) + 4);
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0) {
		time_limit(40); /* not inherited */
		exit(exercise());
	}
	SYS(waitpid(pid, &status, 0));
	put_number(fd, atoi(text));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
