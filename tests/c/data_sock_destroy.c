/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The connection is destroyed from outside, as `ss -K` does it: -ECONNABORTED. */
#include "data_kernel_ends.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

/* Returns 0 or -errno. */
static int destroy(int socket_fd)
{
	struct {
		struct nlmsghdr head;
		struct inet_diag_req_v2 request;
	} message = {
		.head = { .nlmsg_len = sizeof message,
			  .nlmsg_type = SOCK_DESTROY,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		.request = { .sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0U },
	};
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
	} answer;
	struct sockaddr_in here, there;
	socklen_t length = sizeof here;
	SYS(getsockname(socket_fd, (struct sockaddr *)&here, &length));
	length = sizeof there;
	SYS(getpeername(socket_fd, (struct sockaddr *)&there, &length));
	struct inet_diag_sockid *id = &message.request.id;
	id->idiag_sport = here.sin_port, id->idiag_src[0] = here.sin_addr.s_addr;
	id->idiag_dport = there.sin_port, id->idiag_dst[0] = there.sin_addr.s_addr;
	id->idiag_cookie[0] = id->idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (netlink < 0)
		return -errno;
	SYS(send(netlink, &message, sizeof message, 0));
	SYS(recv(netlink, &answer, sizeof answer, 0));
	close(netlink);
	CHECK_EQ(answer.head.nlmsg_type, NLMSG_ERROR);
	return answer.error.error;
}

static void destroy_or_fail(int socket_fd)
{
	CHECK_EQ(destroy(socket_fd), 0);
}

int main(void)
{
	int sv[2];
	tcp_pair(sv);
	int tried = destroy(sv[0]);
	close_pair(sv);
	if (tried == -EPERM || tried == -EACCES)
		skip("sockets are destroyed by CAP_NET_ADMIN only");
	if (tried != 0)
		skip("this kernel destroys no sockets (CONFIG_INET_DIAG_DESTROY)");
	snapsend_t *ctx = create_ctx();
	int file = temp_file(KERNEL_ENDS_LENGTH, 37);
	kernel_ends(ctx, file, 0, false, -ECONNABORTED, destroy_or_fail);
	kernel_ends(ctx, file, SNAPSEND_EAGER, false, -ECONNABORTED, destroy_or_fail);
	kernel_ends(ctx, file, 0, true, -ECONNABORTED, destroy_or_fail);
	destroy_ctx(ctx);
	return 0;
}
