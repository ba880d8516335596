/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The library's ways differ in the call, in the request's flags, and in what a request names: the caller's descriptors,
 * registered ones, or a file that is opened for each operation.
 */
#include "library.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define BATCH       256
#define DEPTH_BYTES (4 * MIB) /* bulk: kept submitted on a connection ... */
#define DEPTH_MIN   2u        /* ... in at least so many operations, so that the next one is there in time ... */
#define DEPTH_MAX   16u       /* ... and at most so many, where DONE comes when the bytes are in the socket */

#define NO_DESCRIPTORS "more files open at a time than RLIMIT_NOFILE allows"

#define REGISTERED (SNAPSEND_REGISTERED_FILE | SNAPSEND_REGISTERED_SOCKET)

static int submit_operation(struct connection *c);
static int gather_operation(struct connection *c);
static int try_operation(struct connection *c);

struct manner {
	push_function push;
	uint32_t flags;
	bool opens; /* a file for each operation */
};

static const struct manner manners[] = {
	[SUBMIT] = { submit_operation, 0, false },
	[SUBMIT_MANY] = { gather_operation, 0, false },
	[TRY_SEND] = { try_operation, 0, false },
	[SUBMIT_FIXED] = { submit_operation, REGISTERED, false },
	[TRY_FIXED] = { try_operation, REGISTERED, false },
	[SUBMIT_ZC] = { submit_operation, REGISTERED | SNAPSEND_ZEROCOPY, false },
	[SUBMIT_ZC_UNREGISTERED] = { submit_operation, SNAPSEND_ZEROCOPY, false },
	[SUBMIT_ZC_NEW_FILE] = { submit_operation, SNAPSEND_ZEROCOPY, true },
};

static struct {
	const struct setup *setup;
	struct shared *shared;
	const struct manner *manner;
	struct connection *connections;
	snapsend_t *context;
	unsigned depth;
	struct snapsend_request *gathered; /* for snapsend_submit_many() */
	unsigned gathered_count;
} library;

/* ---- submitting ---------------------------------------------------------------------------- */

static int open_file(void)
{
	int fd = open(library.setup->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 && errno == EMFILE)
		skip(library.shared, NO_DESCRIPTORS);
	if (fd < 0)
		fail(library.shared, "server: %s: %s", library.setup->path, strerror(errno));
	return fd;
}

/* The completion says which connection the operation was for, and which file. */
static void make_request(struct connection *c, struct snapsend_request *request)
{
	int file = library.manner->opens ? open_file() : c->request_file;

	*request = (struct snapsend_request){
		.socket_fd = c->request_socket,
		.file_fd = file,
		.offset = c->offset,
		.length = c->left,
		.flags = library.manner->flags,
		.user_data = (uint64_t)c->index << 32 | (uint32_t)file,
	};
	if (c->header_left > 0) {
		c->header_part = (struct iovec){ &c->header, sizeof(c->header) };
		request->header = &c->header_part;
		request->header_count = 1;
	}
}

static void close_file(uint64_t user_data)
{
	if (library.manner->opens)
		close((int)(uint32_t)user_data);
}

static void check_done(const struct snapsend_completion *done)
{
	if (done->status < 0 && !atomic_load(&library.shared->stopping))
		fail(library.shared, "server: an operation ended with %s after %" PRIu64 " bytes",
		     strerror(-done->status), done->wire_bytes);
}

static int refused(void)
{
	atomic_fetch_add(&library.shared->refusals, 1);
	return REFUSED;
}

static int submit_operation(struct connection *c)
{
	struct snapsend_request request;
	int r;

	make_request(c, &request);
	r = snapsend_submit(library.context, &request, sizeof(request), NULL);
	if (r == -EAGAIN) {
		close_file(request.user_data);
		return refused();
	}
	if (r == -EMFILE)
		skip(library.shared, NO_DESCRIPTORS);
	if (r < 0)
		fail(library.shared, "server: snapsend_submit: %s", strerror(-r));
	c->in_flight++;
	return BLOCKED;
}

static int gather_operation(struct connection *c)
{
	make_request(c, &library.gathered[library.gathered_count++]);
	c->in_flight++;
	return BLOCKED;
}

static int try_operation(struct connection *c)
{
	struct snapsend_completion done;
	struct snapsend_request request;
	int r;

	make_request(c, &request);
	r = snapsend_try_send(library.context, &request, sizeof(request), &done);
	if (r == -EAGAIN)
		return refused();
	if (r < 0)
		fail(library.shared, "server: snapsend_try_send: %s", strerror(-r));
	if (r == 1) {
		check_done(&done);
		return DONE;
	}
	c->in_flight++;
	return BLOCKED;
}

bool has_gathered(void)
{
	return library.gathered_count > 0;
}

void flush_gathered(void)
{
	unsigned taken = 0;

	while (taken < library.gathered_count) {
		int r = snapsend_submit_many(library.context, &library.gathered[taken], sizeof(*library.gathered),
					     library.gathered_count - taken, NULL);

		if (r == -EAGAIN) {
			refused();
			break;
		}
		if (r <= 0)
			fail(library.shared, "server: snapsend_submit_many: %s", strerror(-r));
		taken += (unsigned)r;
	}
	library.gathered_count -= taken;
	memmove(library.gathered, library.gathered + taken, library.gathered_count * sizeof(*library.gathered));
}

/* ---- completions --------------------------------------------------------------------------- */

int completions_descriptor(void)
{
	return snapsend_event_fd(library.context);
}

bool wants_more(const struct connection *c)
{
	return c->in_flight < library.depth;
}

void take_completions(void (*again)(struct connection *c))
{
	struct snapsend_completion done[BATCH];
	int n;

	/* The descriptor stays readable while there are more than these. */
	n = snapsend_poll(library.context, done, BATCH, 0);
	if (n < 0 && n != -EINTR)
		fail(library.shared, "server: snapsend_poll: %s", strerror(-n));
	for (int i = 0; i < n; i++) {
		struct connection *c = &library.connections[done[i].user_data >> 32];

		check_done(&done[i]);
		close_file(done[i].user_data);
		c->in_flight--;
		again(c);
	}
}

/* ---- a run --------------------------------------------------------------------------------- */

/* Operations in flight on a connection.  With zero-copy they are so until the peer has acknowledged them: what is kept
 * submitted then has to last for a round trip, however short the operations are. */
static unsigned depth_of(const struct setup *setup, const struct manner *manner)
{
	uint64_t depth = DEPTH_BYTES / setup->size;

	if (setup->workload != BULK)
		return 1;
	if ((manner->flags & SNAPSEND_ZEROCOPY) == 0)
		depth = smaller(depth, DEPTH_MAX);
	return depth < DEPTH_MIN ? DEPTH_MIN : (unsigned)depth;
}

static void make_room_to_gather(void)
{
	const struct setup *setup = library.setup;
	size_t total = setup->connections + setup->cold + setup->stalled;

	library.gathered = calloc(total * library.depth, sizeof(*library.gathered));
	if (library.gathered == NULL)
		fail(library.shared, "server: no memory");
}

push_function prepare_library(const struct setup *setup, struct shared *shared, struct connection *connections)
{
	struct snapsend_info info;
	int r;

	library.setup = setup;
	library.shared = shared;
	library.manner = &manners[setup->way->variant];
	library.connections = connections;
	library.depth = depth_of(setup, library.manner);
	r = snapsend_create(NULL, 0, &library.context);
	if (r < 0)
		fail(shared, "server: snapsend_create: %s", strerror(-r));
	if (snapsend_get_info(library.context, &info, sizeof(info)) == 0)
		shared->engine = info.engine;
	if (library.manner->push == gather_operation)
		make_room_to_gather();
	return library.manner->push;
}

static int registered(const char *call, int handle)
{
	if (handle < 0)
		fail(library.shared, "server: %s: %s", call, strerror(-handle));
	return handle;
}

/* Neighbours share a file, and then its handle. */
static int registered_file(const struct connection *c)
{
	if (c->index > 0 && c[-1].file_fd == c->file_fd)
		return c[-1].request_file;
	return registered("snapsend_register_file", snapsend_register_file(library.context, c->file_fd, 0));
}

void start_library(struct connection *c)
{
	c->request_socket = c->fd;
	c->request_file = c->file_fd;
	if ((library.manner->flags & SNAPSEND_REGISTERED_FILE) != 0)
		c->request_file = registered_file(c);
	if ((library.manner->flags & SNAPSEND_REGISTERED_SOCKET) != 0)
		c->request_socket =
			registered("snapsend_register_socket", snapsend_register_socket(library.context, c->fd, 0));
}

void count_library(struct snapsend_stats *stats)
{
	int r = snapsend_get_stats(library.context, stats, sizeof(*stats));

	if (r < 0)
		fail(library.shared, "server: snapsend_get_stats: %s", strerror(-r));
}

void finish_library(void)
{
	struct shared *shared = library.shared;
	int r;

	count_library(&shared->after);
	shared->zerocopy_notified = shared->after.zerocopy_notified;
	shared->zerocopy_copied = shared->after.zerocopy_copied_anyway;
	r = snapsend_destroy(library.context);
	if (r < 0)
		fail(shared, "server: snapsend_destroy: %s", strerror(-r));
}
