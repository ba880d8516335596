/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * vfs_snapsend: reads of SMB clients are sent by snapsend instead of
 * sendfile(2).
 *
 * GPL, as every module that is built with Samba's headers and loaded into smbd
 * has to be; the library that it calls is MIT OR Apache-2.0.
 *
 * smbd hands the sendfile hook a reply's header, a file and a range, and waits
 * until it returns. What it has announced in the header must follow: when the
 * file has become shorter since smbd looked at its size, stock smbd fills up
 * with zeros, whatever the hook returns. So here nothing is sent before the
 * whole range is in private memory (SNAPSEND_EXACT); where there is less of it,
 * the header is put right first: it then says how much there is, or
 * STATUS_END_OF_FILE, as smbd's ordinary read does.
 */

#include "includes.h"
#include "system/filesys.h"
#include "system/network.h"
#include "system/shmem.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include "smbd/fd_handle.h"
#include "smbd/smb1_reply.h"
#include "lib/util/blocking.h"
#include "lib/util/iov_buf.h"
#include "lib/util/sys_rw.h"
#include "libcli/smb/smb2_constants.h"
#include "smbprofile.h"
#include <snapsend.h>

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

#define MODULE "snapsend"

/*
 * What the library's ring thread can do better than this thread, which has to
 * wait for it, is to send without a copy: long ranges, to other machines.
 * Unless the administrator says from which length on the library is to be used,
 * it is tried with some long reads of each such client, and kept to as long as
 * it sends without a copy.
 */
#define ZERO_COPY_MIN (256 * 1024)
#define FRUITLESS_MAX 8
#define TRY_AGAIN_AFTER 1024

/*
 * What a read is copied into is mapped in steps of what most clients ask for at
 * once.
 */
#define BUFFER_STEP (1024 * 1024)
#define BUFFER_IDLE_SECONDS 1

/* At most this often are the counters logged while a client reads. */
#define REPORT_SECONDS 10

/* Where an SMB2 READ request has its arguments, MS-SMB2 2.2.19. */
#define READ_LENGTH 0x04
#define READ_OFFSET 0x08
#define READ_MINIMUM_COUNT 0x20

/*
 * What an SMB2 READ reply consists of, MS-SMB2 2.2.20; the data follows the
 * body.
 */
#define REPLY_BODY (NBT_HDR_SIZE + SMB2_HDR_BODY)
#define REPLY_READ_LENGTH (REPLY_BODY + 16)
/* An SMB2 ERROR reply, MS-SMB2 2.2.2. */
#define REPLY_ERROR_LENGTH (REPLY_BODY + 9)
/* What setup_readX_header makes for SMB1: 12 words and a byte of padding. */
#define REPLY_READX_LENGTH (smb_size + 12 * 2 + 1)

/* One tree connection. */
struct snapsend_share {
	struct snapsend_share *prev, *next;
	int snum;
	/* The share's settings, as they were before the module made its own. */
	bool use_sendfile;
	int aio_read_size;
	/*
	 * Reads from this length on go through the library, if the
	 * administrator has set it.
	 */
	uint64_t min_size;
	bool is_min_size_set;
	/*
	 * Whether the client is on another machine, as far as its address
	 * tells.
	 */
	bool is_remote, is_remote_known;
	/*
	 * Reads through the library since it last sent without a copy, and long
	 * ones that were not tried since.
	 */
	unsigned int fruitless, untried;
	uint64_t bytes_zerocopy;
	time_t reported;
	/*
	 * Reads answered by the library, by a copy on this thread, and with
	 * less than was asked for.
	 */
	uint64_t sent, copied, shortened;
	uint64_t bytes;
};

/* One call of the sendfile hook. */
struct snapsend_read {
	int sock;
	files_struct *fsp;
	const DATA_BLOB *header;
	off_t offset;
	size_t count;
};

/*
 * One context for each smbd process. It is made at the first read: smbd forks
 * for each client, and a context does not survive that.
 */
static snapsend_t *context;
static bool context_failed;
/* All tree connections of the process that use the module. */
static struct snapsend_share *shares;

/*
 * What reads are copied into, one for each smbd process. It begins with a page:
 * at a few bytes past one, where malloc puts what is long, x86 processors take
 * up to four times as long for the copy. Only pages that were written to take
 * memory; they are given back when the process has not read for a while.
 */
static struct {
	uint8_t *data;
	size_t size;
	struct tevent_timer *timer;
	bool is_used;
} buffer;

static const struct enum_list engines[] = {
	{SNAPSEND_ENGINE_AUTO, "auto"},
	{SNAPSEND_ENGINE_URING, "uring"},
	{SNAPSEND_ENGINE_PORTABLE, "portable"},
	{-1, NULL},
};

static uint64_t parameter_bytes(int snum, const char *name, uint64_t otherwise)
{
	const char *text = lp_parm_const_string(snum, MODULE, name, NULL);
	uint64_t bytes;

	if (text == NULL) {
		return otherwise;
	}
	if (!conv_str_size_error(text, &bytes)) {
		DBG_ERR(MODULE ":%s = %s is no number of bytes\n", name, text);
		return otherwise;
	}
	return bytes;
}

static void make_context(int snum)
{
	struct snapsend_options options = {
		.engine = lp_parm_enum(snum,
				       MODULE,
				       "engine",
				       engines,
				       SNAPSEND_ENGINE_AUTO),
		/* smbd waits for each: there is never more than one. */
		.max_ops = 16,
		.pool_bytes = parameter_bytes(snum, "pool", 0),
	};
	struct snapsend_info info = {.version = 0};
	int ret;

	ret = snapsend_create(&options, sizeof(options), &context);
	if (ret < 0) {
		context = NULL;
		context_failed = true;
		DBG_ERR("no context: %s; reads are copied\n", strerror(-ret));
		return;
	}
	snapsend_get_info(context, &info, sizeof(info));
	DBG_INFO("snapsend %s, %s engine%s%s, pool of %" PRIu64
		 " bytes, ranges up to %" PRIu64 "\n",
		 snapsend_version_string(),
		 info.engine == SNAPSEND_ENGINE_URING ? "io_uring" : "portable",
		 info.engine_errno < 0 ? ", as io_uring is refused: " : "",
		 info.engine_errno < 0 ? strerror(-info.engine_errno) : "",
		 info.pool_bytes,
		 info.exact_max);
}

static void drop_context(void)
{
	if (context != NULL) {
		snapsend_destroy(context);
		context = NULL;
	}
}

static void buffer_drop(void)
{
	TALLOC_FREE(buffer.timer);
	if (buffer.data != NULL) {
		munmap(buffer.data, buffer.size);
		buffer.data = NULL;
		buffer.size = 0;
	}
}

static void buffer_watch(struct tevent_context *ev);

static void buffer_look(struct tevent_context *ev,
			struct tevent_timer *timer,
			struct timeval now,
			void *unused)
{
	TALLOC_FREE(buffer.timer);
	if (buffer.is_used) {
		buffer_watch(ev);
	} else {
		buffer_drop();
	}
}

/*
 * Drops the buffer when it has not been used for a while; or else, with no
 * memory for that, the last share does.
 */
static void buffer_watch(struct tevent_context *ev)
{
	buffer.is_used = false;
	buffer.timer =
		tevent_add_timer(ev,
				 ev,
				 timeval_current_ofs(BUFFER_IDLE_SECONDS, 0),
				 buffer_look,
				 NULL);
}

/* At least length bytes, until the next call; NULL and errno. */
static uint8_t *buffer_get(struct tevent_context *ev, size_t length)
{
	if (length > buffer.size) {
		size_t size =
			(length + BUFFER_STEP - 1) / BUFFER_STEP * BUFFER_STEP;
		void *data = mmap(NULL,
				  size,
				  PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS,
				  -1,
				  0);

		if (data == MAP_FAILED) {
			return NULL;
		}
		if (size > BUFFER_STEP) {
			/*
			 * Long copies are faster with huge pages; without them
			 * nothing is lost.
			 */
			madvise(data, size, MADV_HUGEPAGE);
		}
		buffer_drop();
		buffer.data = data;
		buffer.size = size;
		buffer_watch(ev);
	}
	buffer.is_used = true;
	return buffer.data;
}

static void report(vfs_handle_struct *handle,
		   const struct snapsend_share *share)
{
	struct snapsend_stats stats = {.submitted = 0};

	if (!CHECK_DEBUGLVL(DBGLVL_INFO)) {
		return;
	}
	if (context != NULL) {
		snapsend_get_stats(context, &stats, sizeof(stats));
	}
	DBG_INFO("%s: %" PRIu64 " reads sent, %" PRIu64 " copied, %" PRIu64
		 " shortened, %" PRIu64 " bytes; "
		 "this process: %" PRIu64 " bytes copied and %" PRIu64
		 " zero-copy by the library, "
		 "%" PRIu64 " failed, pool %" PRIu64 " bytes\n",
		 lp_const_servicename(SNUM(handle->conn)),
		 share->sent,
		 share->copied,
		 share->shortened,
		 share->bytes,
		 stats.bytes_copied,
		 stats.bytes_zerocopy,
		 stats.done_error,
		 stats.pool_resident);
}

static void report_now_and_then(vfs_handle_struct *handle,
				struct snapsend_share *share)
{
	time_t now;

	if (!CHECK_DEBUGLVL(DBGLVL_INFO)) {
		return;
	}
	now = time_mono(NULL);
	if (now - share->reported >= REPORT_SECONDS) {
		share->reported = now;
		report(handle, share);
	}
}

/* Another tree connection to the same share. */
static struct snapsend_share *share_beside(const struct snapsend_share *share)
{
	struct snapsend_share *other = NULL;

	for (other = shares; other != NULL; other = other->next) {
		if (other != share && other->snum == share->snum) {
			break;
		}
	}
	return other;
}

/*
 * smbd prefers asynchronous reads, and uses the sendfile hook only where it is
 * told to. Like others that need settings (vfs_acl_xattr, for one) the module
 * makes them itself. They outlast a reload of the configuration, unless the
 * share's own section has them.
 */
static void settings_make(struct snapsend_share *share)
{
	const struct snapsend_share *other = share_beside(share);

	share->use_sendfile = other != NULL ? other->use_sendfile
					    : lp__use_sendfile(share->snum);
	share->aio_read_size = other != NULL ? other->aio_read_size
					     : lp_aio_read_size(share->snum);
	lp_do_parameter(share->snum, "use sendfile", "yes");
	lp_do_parameter(share->snum, "aio read size", "0");
}

/*
 * If the next tree connection is without the module, smbd must not use
 * sendfile.
 */
static void settings_undo(const struct snapsend_share *share)
{
	char bytes[16];

	if (share_beside(share) != NULL) {
		return;
	}
	snprintf(bytes, sizeof(bytes), "%d", share->aio_read_size);
	lp_do_parameter(share->snum,
			"use sendfile",
			share->use_sendfile ? "yes" : "no");
	lp_do_parameter(share->snum, "aio read size", bytes);
}

/*
 * Called when the tree connection is freed, also after one that failed
 * half-way.
 */
static void share_free(void **data)
{
	struct snapsend_share *share = *data;

	settings_undo(share);
	DLIST_REMOVE(shares, share);
	TALLOC_FREE(*data);
	if (shares == NULL) {
		drop_context();
		context_failed = false;
		buffer_drop();
	}
}

static int snapsend_vfs_connect(vfs_handle_struct *handle,
				const char *service,
				const char *user)
{
	int snum = SNUM(handle->conn);
	struct snapsend_share *share = NULL;
	int ret;

	ret = SMB_VFS_NEXT_CONNECT(handle, service, user);
	if (ret < 0) {
		return ret;
	}
	/* Printers and IPC$ have no files to send. */
	if (IS_IPC(handle->conn) || IS_PRINT(handle->conn)) {
		return 0;
	}
	share = talloc_zero(handle->conn, struct snapsend_share);
	if (share == NULL) {
		SMB_VFS_NEXT_DISCONNECT(handle);
		errno = ENOMEM;
		return -1;
	}
	share->min_size = parameter_bytes(snum, "min size", UINT64_MAX);
	share->is_min_size_set = share->min_size != UINT64_MAX;
	share->reported = time_mono(NULL);
	share->snum = snum;
	settings_make(share);
	DLIST_ADD(shares, share);
	SMB_VFS_HANDLE_SET_DATA(handle,
				share,
				share_free,
				struct snapsend_share,
				return -1);
	return 0;
}

static void snapsend_vfs_disconnect(vfs_handle_struct *handle)
{
	if (handle->data != NULL) {
		report(handle, handle->data);
	}
	SMB_VFS_NEXT_DISCONNECT(handle);
}

/*
 * Returns the SMB2 READ that smbd is working on, or NULL. All other requests
 * for the file are waiting for something and have a subreq. The newest request
 * is the last in the list.
 */
static const struct smbd_smb2_request *current_read(const files_struct *fsp)
{
	const struct smbXsrv_connection *xconn = NULL;
	const struct smbd_smb2_request *req = NULL;

	for (xconn = fsp->conn->sconn->client->connections; xconn != NULL;
	     xconn = xconn->next) {
		for (req = DLIST_TAIL(xconn->smb2.requests); req != NULL;
		     req = DLIST_PREV(req)) {
			if (req->compat_chain_fsp == fsp &&
			    req->subreq == NULL &&
			    SVAL(SMBD_SMB2_IN_HDR_PTR(req), SMB2_HDR_OPCODE) ==
				    SMB2_OP_READ) {
				return req;
			}
		}
	}
	return NULL;
}

/*
 * Returns whether smbd is to answer the read by the sendfile hook. smbd has
 * conditions of its own for that, in schedule_smb2_sendfile_read; they come
 * first, because a read that it refuses would otherwise be done synchronously.
 *
 * The module's own conditions: The answer to a read of 0 bytes or with a
 * minimum count (STATUS_OK or STATUS_END_OF_FILE) depends on what the hook is
 * not told. If replies are queued that the client has not taken yet, the hook
 * is called later, when the file may have been closed and its files_struct
 * freed.
 */
static bool is_for_sendfile(const struct smbd_smb2_request *req,
			    const files_struct *fsp)
{
	const struct stat_ex *st = &fsp->fsp_name->st;
	const uint8_t *body = SMBD_SMB2_IN_BODY_PTR(req);
	uint32_t length = IVAL(body, READ_LENGTH);
	uint64_t offset = BVAL(body, READ_OFFSET);
	uint64_t size = st->st_ex_size;

	if (req->do_signing || req->do_encryption ||
	    smbd_smb2_is_compound(req) || fsp_is_alternate_stream(fsp) ||
	    !S_ISREG(st->st_ex_mode) || offset >= size ||
	    size - offset < length) {
		return false;
	}
	return length > 0 && IVAL(body, READ_MINIMUM_COUNT) <= 1 &&
	       req->xconn->smb2.send_queue == NULL;
}

/*
 * smbd asks this before each read, as its setting of "aio read size" is 0. It
 * asks before writes, too, and for SMB1. Reads that are not for the sendfile
 * hook are done as the share's own settings say.
 */
static bool snapsend_vfs_aio_force(vfs_handle_struct *handle, files_struct *fsp)
{
	const struct smbd_smb2_request *req = current_read(fsp);
	bool force = SMB_VFS_NEXT_AIO_FORCE(handle, fsp);
	struct snapsend_share *share = NULL;
	size_t aio_read_size;
	bool use_sendfile;

	if (req == NULL) {
		return force;
	}
	SMB_VFS_HANDLE_GET_DATA(handle,
				share,
				struct snapsend_share,
				return force);
	use_sendfile = is_for_sendfile(req, fsp);
	/* smbd looks at it next. */
	set_use_sendfile(share->snum, use_sendfile);
	aio_read_size = share->aio_read_size;
	if (!use_sendfile && aio_read_size != 0) {
		const uint8_t *body = SMBD_SMB2_IN_BODY_PTR(req);

		force |= IVAL(body, READ_LENGTH) >= aio_read_size;
	}
	return force;
}

/*
 * The errno for a stream that is cut off: smbd takes ENOSYS, ENOTSUP and EINTR
 * to mean that it may go on.
 */
static int cut_off(int error)
{
	switch (error) {
	case ENOSYS:
	case ENOTSUP:
	case EINTR:
		return EIO;
	default:
		return error;
	}
}

/*
 * Sends all of two pieces, however long the client takes. Where the socket is
 * full it is made a blocking one, as in sys_sendfile: poll would return at
 * once, again and again, for an error queue that nobody reads, or while TCP is
 * short of memory.
 */
static ssize_t send_all(int sock,
			const uint8_t *header,
			size_t header_length,
			const uint8_t *data,
			size_t length)
{
	struct iovec pieces[2] = {
		{.iov_base = discard_const_p(uint8_t, header),
		 .iov_len = header_length},
		{.iov_base = discard_const_p(uint8_t, data), .iov_len = length},
	};
	struct iovec *iov = pieces;
	int iovcnt = 2, old_flags = -1, error = 0;

	while (iovcnt > 0 && error == 0) {
		struct msghdr message = {.msg_iov = iov, .msg_iovlen = iovcnt};
		ssize_t count = sendmsg(sock, &message, MSG_NOSIGNAL);

		if (count >= 0) {
			error = iov_advance(&iov, &iovcnt, count) ? 0 : EIO;
		} else if (errno == EAGAIN && old_flags == -1) {
			old_flags = fcntl(sock, F_GETFL, 0);
			error = old_flags == -1 ||
						set_blocking(sock, true) == -1
					? errno
					: 0;
		} else if (errno != EINTR) {
			error = errno;
		}
	}
	if (old_flags != -1 && fcntl(sock, F_SETFL, old_flags) == -1 &&
	    error == 0) {
		error = errno;
	}
	if (error != 0) {
		errno = cut_off(error);
		return -1;
	}
	return header_length + length;
}

/*
 * Whether the header is that of an SMB2 READ reply that announces count bytes.
 */
static bool is_smb2_read_reply(const DATA_BLOB *header, size_t count)
{
	const uint8_t *reply = header->data;

	return header->length == REPLY_READ_LENGTH &&
	       RIVAL(reply, 0) == header->length - NBT_HDR_SIZE + count &&
	       IVAL(reply, NBT_HDR_SIZE + SMB2_HDR_PROTOCOL_ID) == SMB2_MAGIC &&
	       SVAL(reply, NBT_HDR_SIZE + SMB2_HDR_OPCODE) == SMB2_OP_READ &&
	       SVAL(reply, REPLY_BODY) == 16 + 1 &&
	       CVAL(reply, REPLY_BODY + 2) == SMB2_HDR_BODY + 16 &&
	       IVAL(reply, REPLY_BODY + 4) == count;
}

/*
 * Whether the header is that of an SMB1 READ ANDX reply that announces count
 * bytes.
 */
static bool is_smb1_read_reply(const DATA_BLOB *header, size_t count)
{
	const uint8_t *reply = header->data;

	return header->length == REPLY_READX_LENGTH &&
	       memcmp(reply + NBT_HDR_SIZE, "\377SMB", 4) == 0 &&
	       CVAL(reply, smb_com) == SMBreadX && CVAL(reply, smb_wct) == 12 &&
	       (SVAL(reply, smb_vwv5) | (uint32_t)SVAL(reply, smb_vwv7)
						<< 16) == count;
}

/*
 * Makes the header of a READ reply one that announces length bytes, or, with
 * length -1, an error. Credits and flags stay as they are. Returns the new
 * header's length.
 */
static size_t shorten_smb2(uint8_t *reply, ssize_t length, NTSTATUS status)
{
	if (length > 0) {
		RSIVAL(reply, 0, REPLY_READ_LENGTH - NBT_HDR_SIZE + length);
		SIVAL(reply, REPLY_BODY + 4, length);
		return REPLY_READ_LENGTH;
	}
	if (length == 0) {
		status = NT_STATUS_END_OF_FILE;
	}
	RSIVAL(reply, 0, REPLY_ERROR_LENGTH - NBT_HDR_SIZE);
	SIVAL(reply, NBT_HDR_SIZE + SMB2_HDR_STATUS, NT_STATUS_V(status));
	memset(reply + REPLY_BODY, 0, 16);
	SSVAL(reply, REPLY_BODY, 8 + 1);
	return REPLY_ERROR_LENGTH;
}

static size_t shorten_smb1(uint8_t *reply, ssize_t length, NTSTATUS status)
{
	if (length >= 0) {
		setup_readX_header((char *)reply, length);
		return REPLY_READX_LENGTH;
	}
	srv_smb1_set_message((char *)reply, 0, 0, true);
	error_packet_set((char *)reply, 0, 0, status, __LINE__, __FILE__);
	return smb_size;
}

/*
 * Counts a read that is answered, and moves the handle's position behind it, as
 * smbd's other ways to read do: clients may ask for it
 * (FilePositionInformation).
 */
static void answered(struct snapsend_share *share,
		     const struct snapsend_read *read,
		     uint64_t *counter,
		     size_t length)
{
	*counter += 1;
	share->bytes += length;
	if (length > 0) {
		fh_set_pos(read->fsp->fh, read->offset + length);
		fh_set_position_information(read->fsp->fh,
					    read->offset + length);
	}
}

/*
 * Sends a range of which there is less than announced, or that cannot be read
 * (length -1 and errno). The result says that all is well: otherwise smbd would
 * add what it thinks is missing. What it then counts too much is of use to it
 * only to guess when the client has acknowledged an oplock break, on
 * connections with several channels.
 */
static ssize_t send_short(struct snapsend_share *share,
			  const struct snapsend_read *read,
			  const uint8_t *data,
			  ssize_t length)
{
	NTSTATUS status =
		length == -1 ? map_nt_error_from_unix(errno) : NT_STATUS_OK;
	uint8_t reply[MAX(REPLY_READ_LENGTH, REPLY_READX_LENGTH)];
	size_t reply_length;
	ssize_t ret;

	if (is_smb2_read_reply(read->header, read->count)) {
		memcpy(reply, read->header->data, read->header->length);
		reply_length = shorten_smb2(reply, length, status);
	} else if (is_smb1_read_reply(read->header, read->count)) {
		memcpy(reply, read->header->data, read->header->length);
		reply_length = shorten_smb1(reply, length, status);
	} else {
		/*
		 * READ RAW of SMB1, for which smbd reads again and makes a
		 * header that is right.
		 */
		errno = ENOSYS;
		return -1;
	}
	ret = send_all(read->sock, reply, reply_length, data, MAX(length, 0));
	if (ret == -1) {
		return -1;
	}
	answered(share, read, &share->shortened, MAX(length, 0));
	return read->header->length + read->count;
}

/* Reads the whole range and then sends it, on this thread. */
static ssize_t send_copy(struct snapsend_share *share,
			 const struct snapsend_read *read)
{
	uint8_t *data = NULL;
	ssize_t length = 0;
	ssize_t ret;

	/* There is no buffer of 0 bytes. */
	if (read->count > 0) {
		data = buffer_get(read->fsp->conn->sconn->ev_ctx, read->count);
		/*
		 * Without memory it is a read that fails: smbd's own way is to
		 * send piece by piece what it then finds.
		 */
		length = data == NULL ? -1
				      : sys_pread_full(fsp_get_io_fd(read->fsp),
						       data,
						       read->count,
						       read->offset);
	}
	if (length != (ssize_t)read->count) {
		return send_short(share, read, data, length);
	}
	ret = send_all(read->sock,
		       read->header->data,
		       read->header->length,
		       data,
		       length);
	if (ret != -1) {
		answered(share, read, &share->copied, length);
	}
	return ret;
}

/* Sends by the library; 0: not a byte went out, and a copy may do. */
static ssize_t send_snapshot(struct snapsend_share *share,
			     const struct snapsend_read *read)
{
	struct iovec iov = {.iov_base = read->header->data,
			    .iov_len = read->header->length};
	struct snapsend_request request = {
		.socket_fd = read->sock,
		.file_fd = fsp_get_io_fd(read->fsp),
		.offset = read->offset,
		.length = read->count,
		.header = &iov,
		.header_count = 1,
		.flags = SNAPSEND_EXACT,
	};
	struct snapsend_completion completion = {.status = 0};
	int ret;

	ret = snapsend_send(context, &request, sizeof(request), &completion);
	if (ret < 0) {
		DBG_NOTICE("a read of %zu bytes is refused: %s; it is copied\n",
			   read->count,
			   strerror(-ret));
		if (ret == -ECHILD || ret == -EBADF || ret == -EIO) {
			/*
			 * After a fork, or beyond use: the next read makes
			 * another.
			 */
			drop_context();
		}
		return 0;
	}
	if (completion.status == 0) {
		answered(share, read, &share->sent, completion.file_bytes);
		return completion.wire_bytes;
	}
	DBG_NOTICE("a read of %zu bytes ended after %" PRIu64 " with %s\n",
		   read->count,
		   completion.wire_bytes,
		   strerror(-completion.status));
	if (completion.wire_bytes == 0) {
		return 0;
	}
	errno = cut_off(-completion.status);
	return -1;
}

/* The kernel copies what stays on the machine. */
static bool is_peer_remote(int sock)
{
	struct sockaddr_storage own = {.ss_family = AF_UNSPEC},
				peer = {.ss_family = AF_UNSPEC};
	socklen_t own_length = sizeof(own), peer_length = sizeof(peer);

	if (getsockname(sock, (struct sockaddr *)&own, &own_length) == -1 ||
	    getpeername(sock, (struct sockaddr *)&peer, &peer_length) == -1) {
		return false;
	}
	return (peer.ss_family == AF_INET || peer.ss_family == AF_INET6) &&
	       !is_loopback_addr((struct sockaddr *)&peer) &&
	       !sockaddr_equal((struct sockaddr *)&own,
			       (struct sockaddr *)&peer);
}

/* Whether a read goes through the library. */
static bool is_for_library(struct snapsend_share *share, int sock, size_t count)
{
	struct snapsend_stats stats = {.submitted = 0};

	if (share->is_min_size_set) {
		return count >= share->min_size;
	}
	if (count < ZERO_COPY_MIN) {
		return false;
	}
	if (!share->is_remote_known) {
		share->is_remote = is_peer_remote(sock);
		share->is_remote_known = true;
	}
	if (!share->is_remote) {
		return false;
	}
	/*
	 * That a send was without a copy is known only when the client has
	 * acknowledged it.
	 */
	if (context != NULL &&
	    snapsend_get_stats(context, &stats, sizeof(stats)) == 0 &&
	    stats.bytes_zerocopy > share->bytes_zerocopy) {
		share->bytes_zerocopy = stats.bytes_zerocopy;
		share->fruitless = 0;
	}
	if (share->fruitless >= FRUITLESS_MAX) {
		share->untried += 1;
		if (share->untried < TRY_AGAIN_AFTER) {
			return false;
		}
		share->untried = 0;
		share->fruitless = 0;
	}
	share->fruitless += 1;
	return true;
}

static ssize_t snapsend_vfs_sendfile(vfs_handle_struct *handle,
				     int sock,
				     files_struct *fsp,
				     const DATA_BLOB *header,
				     off_t offset,
				     size_t count)
{
	struct snapsend_read read = {
		.sock = sock,
		.fsp = fsp,
		.header = header,
		.offset = offset,
		.count = count,
	};
	struct snapsend_share *share = NULL;
	int saved_errno;
	ssize_t ret = 0;

	SMB_VFS_HANDLE_GET_DATA(
		handle, share, struct snapsend_share, errno = ENOSYS;
		return -1);
	if (header == NULL) {
		/* Nobody asks for that. */
		errno = ENOSYS;
		return -1;
	}
	START_PROFILE_BYTES(syscall_sendfile, count);
	if (is_for_library(share, sock, count)) {
		if (context == NULL && !context_failed) {
			make_context(share->snum);
		}
		if (context != NULL) {
			ret = send_snapshot(share, &read);
		}
	}
	if (ret == 0) {
		ret = send_copy(share, &read);
	}
	saved_errno = errno;
	END_PROFILE_BYTES(syscall_sendfile);
	report_now_and_then(handle, share);
	errno = saved_errno;
	return ret;
}

static struct vfs_fn_pointers snapsend_functions = {
	.connect_fn = snapsend_vfs_connect,
	.disconnect_fn = snapsend_vfs_disconnect,
	.aio_force_fn = snapsend_vfs_aio_force,
	.sendfile_fn = snapsend_vfs_sendfile,
};

static_decl_vfs;
NTSTATUS vfs_snapsend_init(TALLOC_CTX *ctx)
{
	return smb_register_vfs(SMB_VFS_INTERFACE_VERSION,
				MODULE,
				&snapsend_functions);
}
