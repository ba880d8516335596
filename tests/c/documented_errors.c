/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The errors that the header gives by name, where the contract alone leaves a choice. */
#include "common.h"

static int create(uint32_t max_ops, uint64_t pool_bytes, uint64_t chunk_bytes)
{
	struct snapsend_options options;
	snapsend_t *const untouched = (snapsend_t *)(uintptr_t)0x5a5a;
	snapsend_t *ctx = untouched;
	memset(&options, 0, sizeof options);
	options.max_ops = max_ops;
	options.pool_bytes = pool_bytes;
	options.chunk_bytes = chunk_bytes;
	int result = snapsend_create(&options, sizeof options, &ctx);
	CHECK_EQ(ctx == untouched, result != 0); /* written on success only */
	if (result == 0)
		destroy_ctx(ctx);
	return result;
}

int main(void)
{
	int sv[2];
	struct sockaddr_storage address;
	socklen_t length;
	CHECK_EQ(create(1, 65536, 4096), 0); /* the least of each */
	CHECK_EQ(create(1048576, 0, 0), 0);
	CHECK_ERR(create(1048577, 0, 0), EINVAL);
	CHECK_ERR(create(0, 65535, 0), EINVAL);
	CHECK_ERR(create(0, 0, 4095), EINVAL);

	snapsend_t *ctx = create_ctx();
	unix_pair(sv);
	int file = temp_file(100, 1);
	struct snapsend_request request = make_request(sv[0], -1, 0, 1);
	CHECK_EQ(rejected(ctx, &request), EINVAL); /* a length without a file */
	request.length = SNAPSEND_TO_EOF;
	CHECK_EQ(rejected(ctx, &request), EINVAL);
	request = make_request(sv[0], file, (uint64_t)INT64_MAX + 1, 0);
	CHECK_EQ(rejected(ctx, &request), EINVAL);
	request = make_request(sv[0], file, INT64_MAX, 1);
	CHECK_EQ(rejected(ctx, &request), EOVERFLOW);
	request = make_request(sv[0], (int)SYS(open("/", O_RDONLY | O_CLOEXEC)), 0, 1);
	CHECK_EQ(rejected(ctx, &request), EISDIR);
	request = make_request(sv[0], (int)SYS(open("/dev/zero", O_RDONLY | O_CLOEXEC)), 0, 1);
	CHECK_EQ(rejected(ctx, &request), EINVAL);
	request = make_request((int)SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), file, 0, 1);
	CHECK_EQ(rejected(ctx, &request), ESOCKTNOSUPPORT);
	request = make_request(tcp_listener(AF_INET, 0, &address, &length), file, 0, 1);
	CHECK_EQ(rejected(ctx, &request), ENOTCONN);

	/* What is refused writes nothing to the caller's completion and id. */
	struct snapsend_completion completion, before;
	uint64_t id = 77;
	memset(&before, 0xaa, sizeof before);
	completion = before;
	CHECK_ERR(snapsend_try_send(ctx, &request, sizeof request, &completion), ENOTCONN);
	CHECK_ERR(snapsend_send(ctx, &request, sizeof request, &completion), ENOTCONN);
	CHECK(memcmp(&completion, &before, sizeof before) == 0);
	CHECK_ERR(snapsend_submit(ctx, &request, sizeof request, &id), ENOTCONN);
	CHECK_UEQ(id, 77);

	struct snapsend_info info;
	CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
	CHECK_EQ(!!(info.kernel_features & SNAPSEND_KERNEL_IO_URING), info.engine == SNAPSEND_ENGINE_URING);
	destroy_ctx(ctx);
	return 0;
}
