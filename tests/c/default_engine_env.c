/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* engine: one */
/* SNAPSEND_ENGINE chooses the engine for AUTO only. Each case in a new process, since the library may read
 * the variable when it is loaded. */
#include "common.h"
#include <sys/wait.h>

/* Exit status of the child: the engine in use, 100 when it cannot be created, 101 engine_errno is wrong. */
static int child(uint32_t asked)
{
	struct snapsend_options options;
	struct snapsend_info info;
	snapsend_t *ctx = NULL;
	memset(&options, 0, sizeof options);
	options.engine = asked;
	int result = snapsend_create(&options, sizeof options, &ctx);
	if (result < 0)
		return 100;
	CHECK_EQ(result, 0);
	CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
	destroy_ctx(ctx);
	if (info.engine == SNAPSEND_ENGINE_URING ? info.engine_errno != 0 : info.engine_errno > 0)
		return 101;
	const char *name = getenv("SNAPSEND_ENGINE");
	bool portable = asked == SNAPSEND_ENGINE_PORTABLE ||
			(asked == SNAPSEND_ENGINE_AUTO && name != NULL && strcmp(name, "portable") == 0);
	if (portable && info.engine_errno != 0) /* io_uring was not asked for */
		return 101;
	return (int)info.engine;
}

static int run(const char *value, uint32_t asked)
{
	char number[16];
	int status;
	snprintf(number, sizeof number, "%u", asked);
	pid_t pid = (pid_t)SYS(fork());
	if (pid == 0) {
		if (value == NULL)
			unsetenv("SNAPSEND_ENGINE");
		else
			setenv("SNAPSEND_ENGINE", value, 1);
		execl("/proc/self/exe", "default_engine_env", number, (char *)NULL);
		_exit(127);
	}
	SYS(waitpid(pid, &status, 0));
	CHECK(WIFEXITED(status));
	printf("SNAPSEND_ENGINE=%s, options.engine %u: %d\n", value ? value : "(unset)", asked, WEXITSTATUS(status));
	return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
	const int URING = SNAPSEND_ENGINE_URING, PORTABLE = SNAPSEND_ENGINE_PORTABLE;
	if (argc > 1)
		return child((uint32_t)strtoul(argv[1], NULL, 10));

	int works = run(NULL, SNAPSEND_ENGINE_URING); /* io_uring may be refused here */
	CHECK(works == URING || works == 100);
	int best = works == URING ? URING : PORTABLE;

	CHECK_EQ(run(NULL, SNAPSEND_ENGINE_AUTO), best);
	CHECK_EQ(run("auto", SNAPSEND_ENGINE_AUTO), best);
	CHECK_EQ(run("uring", SNAPSEND_ENGINE_AUTO), works);
	CHECK_EQ(run("portable", SNAPSEND_ENGINE_AUTO), PORTABLE);
	CHECK_EQ(run("nonsense", SNAPSEND_ENGINE_AUTO), 100);
	/* What the program asks for stands. */
	CHECK_EQ(run("nonsense", SNAPSEND_ENGINE_PORTABLE), PORTABLE);
	CHECK_EQ(run("portable", SNAPSEND_ENGINE_URING), works);
	CHECK_EQ(run("uring", SNAPSEND_ENGINE_PORTABLE), PORTABLE);
	CHECK_EQ(run("auto", SNAPSEND_ENGINE_PORTABLE), PORTABLE);
	return 0;
}
