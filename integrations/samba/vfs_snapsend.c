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
#include "system/select.h"
#include "system/shmem.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
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

/*
 * What an SMB2 READ reply consists of, MS-SMB2 2.2.20; the data follows the
 * body.
 */
#define REPLY_BODY (NBT_HDR_SIZE + SMB2_HDR_BODY)
#define REPLY_READ_LENGTH (REPLY_BODY + 16)
/* An SMB2 ERROR reply, MS-SMB2 2.2.2. */
#define REPLY_ERROR_LENGTH (REPLY_BODY + 9)

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

static void share_free(void **data)
{
	struct snapsend_share *share = *data;

	DLIST_REMOVE(shares, share);
	TALLOC_FREE(*data);
	if (shares == NULL) {
		drop_context();
		context_failed = false;
		buffer_drop();
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
		settings_undo(handle->data);
	}
	SMB_VFS_NEXT_DISCONNECT(handle);
}

/*
 * What is to be signed or encrypted has to be in smbd's own memory: smbd then
 * does not use sendfile. Asynchronous reads are the best it has.
 */
static bool snapsend_vfs_aio_force(vfs_handle_struct *handle, files_struct *fsp)
{
	struct smbXsrv_tcon *tcon = handle->conn->tcon;

	/*
	 * The same question is asked for writes; who has switched their
	 * asynchronous way off is heeded.
	 */
	if (tcon != NULL && lp_aio_write_size(SNUM(handle->conn)) != 0 &&
	    (smbXsrv_is_signed(tcon->global->signing_flags) ||
	     smbXsrv_is_encrypted(tcon->global->encryption_flags))) {
		return true;
	}
	return SMB_VFS_NEXT_AIO_FORCE(handle, fsp);
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
 * Sends all of two pieces, however long the client takes, as sendfile would;
 * the socket's mode stays what it is.
 */
static ssize_t send_all(int sock,
			const uint8_t *header,
			size_t header_length,
			const uint8_t *data,
			size_t length)
{
	struct iovec iov[2] = {
		{.iov_base = discard_const_p(uint8_t, header),
		 .iov_len = header_length},
		{.iov_base = discard_const_p(uint8_t, data), .iov_len = length},
	};
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
	size_t total = header_length + length;

	while (iov[0].iov_len + iov[1].iov_len > 0) {
		ssize_t count =
			sendmsg(sock, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		size_t of_header;

		if (count == -1 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			struct pollfd room = {.fd = sock, .events = POLLOUT};

			poll(&room, 1, -1);
			continue;
		}
		if (count == -1 && errno == EINTR) {
			continue;
		}
		if (count == -1) {
			errno = cut_off(errno);
			return -1;
		}
		of_header = MIN((size_t)count, iov[0].iov_len);
		iov[0].iov_base = (uint8_t *)iov[0].iov_base + of_header;
		iov[0].iov_len -= of_header;
		count -= of_header;
		iov[1].iov_base = (uint8_t *)iov[1].iov_base + count;
		iov[1].iov_len -= count;
	}
	return total;
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

/* Turns the reply into one that announces length bytes. */
static void announce(uint8_t *reply, size_t length)
{
	RSIVAL(reply, 0, REPLY_READ_LENGTH - NBT_HDR_SIZE + length);
	SIVAL(reply, REPLY_BODY + 4, length);
}

/* Turns the reply into an error; its credits and flags stay as they are. */
static void announce_error(uint8_t *reply, NTSTATUS status)
{
	RSIVAL(reply, 0, REPLY_ERROR_LENGTH - NBT_HDR_SIZE);
	SIVAL(reply, NBT_HDR_SIZE + SMB2_HDR_STATUS, NT_STATUS_V(status));
	memset(reply + REPLY_BODY, 0, 16);
	SSVAL(reply, REPLY_BODY, 8 + 1);
}

/* Reads until the range is complete or the file ends. */
static ssize_t read_range(int fd, uint8_t *data, size_t count, off_t offset)
{
	size_t total = 0;

	while (total < count) {
		ssize_t ret =
			pread(fd, data + total, count - total, offset + total);

		if (ret == -1 && errno == EINTR) {
			continue;
		}
		if (ret == -1) {
			return -1;
		}
		if (ret == 0) {
			break;
		}
		total += ret;
	}
	return total;
}

/*
 * Sends a range of which there is less than announced, or that cannot be read
 * (length -1 and errno). The result says that all is well: otherwise smbd would
 * add what it thinks is missing. What it then counts too much is of use to it
 * only to guess when the client has acknowledged an oplock break, on
 * connections with several channels.
 */
static ssize_t send_short(int sock,
			  struct snapsend_share *share,
			  const DATA_BLOB *header,
			  const uint8_t *data,
			  ssize_t length,
			  size_t count)
{
	uint8_t reply[REPLY_READ_LENGTH];
	ssize_t ret;

	if (!is_smb2_read_reply(header, count)) {
		/*
		 * SMB1, where smbd reads again and then makes a header that is
		 * right.
		 */
		errno = ENOSYS;
		return length == -1 ? -1 : 0;
	}
	memcpy(reply, header->data, sizeof(reply));
	if (length > 0) {
		announce(reply, length);
		ret = send_all(sock, reply, sizeof(reply), data, length);
	} else {
		announce_error(reply,
			       length == 0 ? NT_STATUS_END_OF_FILE
					   : map_nt_error_from_unix(errno));
		ret = send_all(sock, reply, REPLY_ERROR_LENGTH, NULL, 0);
	}
	if (ret == -1) {
		return -1;
	}
	share->shortened += 1;
	share->bytes += MAX(length, 0);
	return header->length + count;
}

/* Reads the whole range and then sends it, on this thread. */
static ssize_t send_copy(vfs_handle_struct *handle,
			 int sock,
			 struct snapsend_share *share,
			 int fd,
			 const DATA_BLOB *header,
			 off_t offset,
			 size_t count)
{
	uint8_t *data = buffer_get(handle->conn->sconn->ev_ctx, count);
	/*
	 * Without memory it is a read that fails: smbd's own way would be to
	 * send piece by piece what it then finds.
	 */
	ssize_t length =
		data == NULL ? -1 : read_range(fd, data, count, offset);
	ssize_t ret;

	if (length != (ssize_t)count) {
		return send_short(sock, share, header, data, length, count);
	}
	ret = send_all(sock, header->data, header->length, data, count);
	if (ret != -1) {
		share->copied += 1;
		share->bytes += count;
	}
	return ret;
}

/* Sends by the library; 0: not a byte went out, and a copy may do. */
static ssize_t send_snapshot(int sock,
			     struct snapsend_share *share,
			     int fd,
			     const DATA_BLOB *header,
			     off_t offset,
			     size_t count)
{
	struct iovec iov = {.iov_base = header->data,
			    .iov_len = header->length};
	struct snapsend_request request = {
		.socket_fd = sock,
		.file_fd = fd,
		.offset = offset,
		.length = count,
		.header = &iov,
		.header_count = 1,
		.flags = SNAPSEND_EXACT,
	};
	struct snapsend_completion completion = {.status = 0};
	int ret;

	ret = snapsend_send(context, &request, sizeof(request), &completion);
	if (ret < 0) {
		DBG_NOTICE("a read of %zu bytes is refused: %s; it is copied\n",
			   count,
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
		share->sent += 1;
		share->bytes += completion.file_bytes;
		return completion.wire_bytes;
	}
	DBG_NOTICE("a read of %zu bytes ended after %" PRIu64 " with %s\n",
		   count,
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
	struct snapsend_share *share = NULL;
	int fd = fsp_get_io_fd(fsp);
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
			make_context(SNUM(handle->conn));
		}
		if (context != NULL) {
			ret = send_snapshot(sock,
					    share,
					    fd,
					    header,
					    offset,
					    count);
		}
	}
	if (ret == 0) {
		ret = send_copy(handle, sock, share, fd, header, offset, count);
	}
	END_PROFILE_BYTES(syscall_sendfile);
	report_now_and_then(handle, share);
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
