/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* A plugin that brings the library and is unloaded while a read that a file server does not answer is still under
 * way: destroy and dlclose come back, and when the read comes back nothing is touched that has gone. */
#include "data_fuse.h"

#include "manners_common.h"

#define SIZE (8 * MIB)

NO_LEAK_CHECK

static void *find(void *library, const char *name)
{
	void *found = dlsym(library, name);
	if (found == NULL)
		fail("no %s: %s", name, dlerror());
	return found;
}

static void use(const char *plugin, int file)
{
	int (*create)(const struct snapsend_options *, size_t, snapsend_t **);
	int (*destroy)(snapsend_t *);
	int (*submit)(snapsend_t *, const struct snapsend_request *, size_t, uint64_t *);
	void *library = dlopen(plugin, RTLD_NOW | RTLD_LOCAL), *call;
	int sv[2], before = atomic_load(&fuse->reads);
	uint64_t id;
	snapsend_t *ctx;
	if (library == NULL)
		fail("dlopen: %s", dlerror());
	call = find(library, "snapsend_create"), memcpy(&create, &call, sizeof call);
	call = find(library, "snapsend_destroy"), memcpy(&destroy, &call, sizeof call);
	call = find(library, "snapsend_submit"), memcpy(&submit, &call, sizeof call);
	CHECK_EQ(create(NULL, 0, &ctx), 0);
	for (int i = 0; i < 4; i++) {
		unix_pair(sv);
		struct snapsend_request request = make_request(sv[0], file, (uint64_t)i * MIB, 100000);
		request.flags = i % 2 ? SNAPSEND_EAGER : 0;
		CHECK_EQ(submit(ctx, &request, sizeof request, &id), 0);
	}
	for (int i = 0; i < 5000 && atomic_load(&fuse->reads) == before; i++)
		sleep_ms(1);
	CHECK_GT(atomic_load(&fuse->reads), before);
	int64_t begin = now_ms();
	CHECK_EQ(destroy(ctx), 0);
	CHECK_LE(now_ms() - begin, 1000 * slowness());
	CHECK_EQ(dlclose(library), 0);
}

int main(void)
{
	char plugin[PATH_MAX];
	const char *path = fuse_mount(SIZE, 93, 16);
	snprintf(plugin, sizeof plugin, "%s/snapsend-test-plugin-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	int to = (int)SYS(mkstemp(plugin)), from = (int)SYS(open(library_path(), O_RDONLY | O_CLOEXEC));
	temp_path_remove_at_exit(plugin);
	SYS(fchmod(to, 0700));
	while (SYS(sendfile(to, from, NULL, 1 << 30)) > 0)
		;
	close_pair((int[2]){ to, from });
	int file = fuse_open(path, true);
	atomic_store(&fuse->hold, true);
	use(plugin, file);
	use(plugin, file); /* loaded once more */
	CHECK_GT(count_threads(), 1);
	CHECK_GT(count_mappings(plugin), 0); /* its code is still needed */
	atomic_store(&fuse->hold, false);
	CHECK_EQ(wait_threads(1, 5000), 1);
	return 0;
}
