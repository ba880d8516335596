/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A plugin that brings the library: dlopen, use from several threads, destroy, dlclose, 100 times. Afterwards no
 * thread, no mapping of the library and no descriptor is left; loading alone starts no thread and opens nothing. */
#include "manners_common.h"

#include <malloc.h>
#include <sys/sendfile.h>

#define ROUNDS 100
#define LENGTH (MIB + 5)

static char copy[PATH_MAX]; /* this program is linked with the library, so it loads another file of the same content */
static int file, sv[2];
static unsigned char *image;

/* The few calls that a plugin makes, found by name. */
struct calls {
	void *library;
	int (*create)(const struct snapsend_options *, size_t, snapsend_t **);
	int (*destroy)(snapsend_t *);
	int (*submit)(snapsend_t *, const struct snapsend_request *, size_t, uint64_t *);
	int (*poll)(snapsend_t *, struct snapsend_completion *, uint32_t, int);
	int (*try_send)(snapsend_t *, const struct snapsend_request *, size_t, struct snapsend_completion *);
	int (*send)(snapsend_t *, const struct snapsend_request *, size_t, struct snapsend_completion *);
	int (*cancel)(snapsend_t *, uint64_t);
	ssize_t (*sendfile)(int, int, off_t *, size_t);
};

static void find(struct calls *calls, const char *name, void *place)
{
	void *found = dlsym(calls->library, name);
	if (found == NULL)
		fail("no %s: %s", name, dlerror());
	memcpy(place, &found, sizeof found);
}

#ifdef __SANITIZE_ADDRESS__ /* which cannot do it */
#undef RTLD_DEEPBIND
#define RTLD_DEEPBIND 0
#endif

static void load(struct calls *calls)
{
	int threads = count_threads(), fds = count_fds();
	calls->library = dlopen(copy, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
	if (calls->library == NULL)
		fail("dlopen: %s", dlerror());
	CHECK_EQ(count_threads(), threads);
	CHECK_EQ(count_fds(), fds);
	find(calls, "snapsend_create", &calls->create);
	find(calls, "snapsend_destroy", &calls->destroy);
	find(calls, "snapsend_submit", &calls->submit);
	find(calls, "snapsend_poll", &calls->poll);
	find(calls, "snapsend_try_send", &calls->try_send);
	find(calls, "snapsend_send", &calls->send);
	find(calls, "snapsend_cancel", &calls->cancel);
	find(calls, "snapsend_sendfile", &calls->sendfile);
}

static void copy_library(void)
{
	snprintf(copy, sizeof copy, "%s/snapsend-test-plugin-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	int to = (int)SYS(mkstemp(copy)), from = (int)SYS(open(library_path(), O_RDONLY));
	temp_path_remove_at_exit(copy);
	SYS(fchmod(to, 0700));
	while (SYS(sendfile(to, from, NULL, 1 << 30)) > 0)
		;
	close_pair((int[2]){ to, from });
}

static void expect(size_t length)
{
	static unsigned char got[LENGTH];
	CHECK_UEQ(read_all(sv[1], got, length), length);
	CHECK(memcmp(got, image, length) == 0);
}

static void use(const struct calls *calls, int round)
{
	static const uint32_t flags[] = { 0, SNAPSEND_EAGER, SNAPSEND_EXACT };
	snapsend_t *ctx;
	struct snapsend_completion done;
	struct snapsend_request request = make_request(sv[0], file, 0, LENGTH);
	uint64_t id;
	CHECK_EQ(calls->create(NULL, 0, &ctx), 0);
	for (size_t i = 0; i < COUNT_OF(flags); i++) {
		request.flags = flags[i];
		if (round % 10 == 0)
			posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED); /* the helper threads, too */
		CHECK_EQ(calls->submit(ctx, &request, sizeof request, &id), 0);
		expect(LENGTH);
		CHECK_EQ(calls->poll(ctx, &done, 1, WAIT_MS), 1);
		CHECK_EQ(done.status, 0);
	}
	request.length = 1000;
	CHECK_EQ(calls->send(ctx, &request, sizeof request, &done), 0);
	expect(1000);
	CHECK_GE(calls->try_send(ctx, &request, sizeof request, &done), 0);
	expect(1000);
	off_t offset = 0;
	CHECK_EQ(calls->sendfile(sv[0], file, &offset, 1000), 1000);
	expect(1000);
	request.length = LENGTH; /* left in flight when it is destroyed */
	int pair[2];
	unix_pair(pair);
	request.socket_fd = pair[0];
	CHECK_EQ(calls->submit(ctx, &request, sizeof request, &id), 0);
	if (round % 2)
		CHECK_GE(calls->cancel(ctx, id), 0);
	CHECK_EQ(calls->destroy(ctx), 0);
	close_pair(pair);
}

/* A thread of the host's that outlives the plugin: what it keeps for a thread must not keep the library. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static const struct calls *job;

static void *other_thread(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&lock);
	for (int round = 0;; round++) {
		while (job == NULL)
			pthread_cond_wait(&changed, &lock);
		use(job, round);
		job = NULL;
		pthread_cond_broadcast(&changed);
	}
	return NULL;
}

static void use_on_other_thread(const struct calls *calls)
{
	pthread_mutex_lock(&lock);
	job = calls;
	pthread_cond_broadcast(&changed);
	while (job != NULL)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static size_t allocated(void)
{
	struct mallinfo2 info = mallinfo2();
	return info.uordblks + info.hblkhd;
}

int main(void)
{
	pthread_t thread;
	struct calls calls;
	int threads = 0, fds = 0, mappings = 0;
	size_t memory = 0;
	copy_library();
	file = temp_file(LENGTH, 98);
	image = image_of(0, LENGTH, 98);
	unix_pair(sv);
	int room = 4 * (int)MIB;
	(void)setsockopt(sv[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
	PTHREAD(pthread_create(&thread, NULL, other_thread, NULL));
	for (int round = 0; round < ROUNDS; round++) {
		if (round == 3) {
			threads = wait_threads(2, 2000), fds = count_fds(), mappings = count_mappings(NULL);
			memory = allocated();
		}
		load(&calls);
		CHECK_GT(count_mappings(copy), 0);
		use(&calls, round);
		use_on_other_thread(&calls);
		CHECK_EQ(dlclose(calls.library), 0);
		int left = count_mappings(copy);
		if (left != 0)
			fail("after round %d the library is still mapped: %d mappings", round, left);
		CHECK_EQ(wait_threads(2, 2000), 2);
	}
	CHECK_EQ(wait_threads(threads, 2000), threads);
	CHECK_EQ(count_fds(), fds);
	printf("mappings %d, then %d; allocated %zu bytes, then %zu\n", mappings, count_mappings(NULL), memory,
	       allocated());
	CHECK_LE(count_mappings(NULL), mappings + 20); /* the allocator's own */
#ifndef __SANITIZE_ADDRESS__
	CHECK_ULE(allocated(), memory + 40000); /* the allocator's caches count, too */
#endif
	return 0;
}
