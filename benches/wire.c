/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The wire: a link as a network card sees it, where data leaves without being touched and zero-copy is real.
 *
 * The server is at the near end of a veth pair (veth.h).  Connections are set up normally; from then on a BPF program
 * at the far device's tc ingress takes each segment that carries data, compares a word of it with the file's pattern,
 * notes where it ends, and drops it.  The client reads those notes every ACK_NS and answers by raw socket with bare
 * acknowledgements, as a card that coalesces its interrupts would let them in.
 *
 * Of an HTTP server the client knows how long the answers are, and sends the next request with the acknowledgement of the
 * last byte of an answer, as a client with one request at a time does.
 *
 * Acknowledgements are handled, and what they let out is sent, on the client's time: only the CPU time of both
 * processes together, or of the whole machine, says what a way costs.
 */
#include "wire.h"

#include <inttypes.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <math.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../tests/torture/xdp.h"
#include "measure.h"
#include "veth.h"

#define FLOWS              WIRE_CONNECTIONS
#define FIRST_PORT         16384u /* of the far end; each run has its own FLOWS */
#define PORT_SETS          256u
#define ACK_NS             50000
#define ACK_AGAIN          100u  /* rounds after which each connection is acknowledged again: one may be lost */
#define ASK_AGAIN          4000u /* the same for an HTTP request whose answer has not begun */
#define REQUEST_MAX        128u
#define ATTACH_TCX_INGRESS 46 /* BPF_TCX_INGRESS: not in all headers */

/* What the program and the client share, for each connection. */
struct flow {
	uint32_t end;            /* sequence number behind the last byte that has come */
	uint32_t base;           /* sequence number of the file's first byte, modulo the file's size */
	uint64_t checked, wrong; /* words of the file compared */
};

static struct veth veth;
static struct flow *flows;

/* ---- the program at the far end ------------------------------------------------------------ */

#define OFFSET_IP  14
#define OFFSET_TCP (OFFSET_IP + 20)
#define TO_PASS    1000 /* jumps there, put right when all is emitted */
#define TO_DROP    1001

static struct bpf_insn program[128];
static int program_length;

static void emit(unsigned code, unsigned to, unsigned from, int offset, int32_t constant)
{
	program[program_length++] = (struct bpf_insn){
		.code = (uint8_t)code,
		.dst_reg = to & 15,
		.src_reg = from & 15,
		.off = (int16_t)offset,
		.imm = constant,
	};
}

static void emit_constant(unsigned to, unsigned kind, uint64_t value)
{
	emit(BPF_LD | BPF_DW | BPF_IMM, to, kind, 0, (int32_t)(uint32_t)value);
	emit(0, 0, 0, 0, (int32_t)(uint32_t)(value >> 32));
}

#define LOAD(size, to, from, at)       emit(BPF_LDX | BPF_MEM | (size), to, from, (int)(at), 0)
#define STORE(size, to, at, from)      emit(BPF_STX | BPF_MEM | (size), to, from, (int)(at), 0)
#define ADD_ATOMICALLY(to, at, from)   emit(BPF_STX | BPF_ATOMIC | BPF_DW, to, from, (int)(at), BPF_ADD)
#define MOVE(to, from)                 emit(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)
#define SET(to, constant)              emit(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, constant)
#define ALU(op, to, from)              emit(BPF_ALU64 | (op) | BPF_X, to, from, 0, 0)
#define ALU_K(op, to, constant)        emit(BPF_ALU64 | (op) | BPF_K, to, 0, 0, constant)
#define ALU32(op, to, from)            emit(BPF_ALU | (op) | BPF_X, to, from, 0, 0)
#define ALU32_K(op, to, constant)      emit(BPF_ALU | (op) | BPF_K, to, 0, 0, constant)
#define FROM_NETWORK(to, bits)         emit(BPF_ALU | BPF_END | BPF_TO_BE, to, 0, 0, bits)
#define JUMP(op, a, b, where)          emit(BPF_JMP | (op) | BPF_X, a, b, where, 0)
#define JUMP_K(op, a, constant, where) emit(BPF_JMP | (op) | BPF_K, a, 0, where, constant)
#define CALL(function)                 emit(BPF_JMP | BPF_CALL, 0, 0, 0, function)

enum { R0, R1, R2, R3, R4, SKB = 6, SEQUENCE = 7, AT = 8, LENGTH = 9, STACK = 10 };
#define PACKET SEQUENCE /* until the headers have been read */
#define FLOW   LENGTH   /* from when the length is not needed any more */

/* A data segment of IPv4 without options?  Its sequence number, where the data starts, and how long it is. */
static void emit_headers(void)
{
	MOVE(SKB, R1);
	LOAD(BPF_W, PACKET, SKB, offsetof(struct __sk_buff, data));
	LOAD(BPF_W, R2, SKB, offsetof(struct __sk_buff, data_end));
	MOVE(R3, PACKET);
	ALU_K(BPF_ADD, R3, OFFSET_TCP + 20);
	JUMP(BPF_JGT, R3, R2, TO_PASS);
	LOAD(BPF_H, R2, PACKET, 12);
	JUMP_K(BPF_JNE, R2, htons(0x0800), TO_PASS);
	LOAD(BPF_B, R2, PACKET, OFFSET_IP);
	JUMP_K(BPF_JNE, R2, 0x45, TO_PASS);
	LOAD(BPF_B, R2, PACKET, OFFSET_IP + 9);
	JUMP_K(BPF_JNE, R2, IPPROTO_TCP, TO_PASS);
	LOAD(BPF_B, AT, PACKET, OFFSET_TCP + 12);
	ALU_K(BPF_RSH, AT, 4);
	ALU_K(BPF_LSH, AT, 2);
	ALU_K(BPF_ADD, AT, OFFSET_TCP);
	LOAD(BPF_W, LENGTH, SKB, offsetof(struct __sk_buff, len));
	ALU(BPF_SUB, LENGTH, AT);
	JUMP_K(BPF_JSLE, LENGTH, 0, TO_PASS);
	LOAD(BPF_H, R2, PACKET, OFFSET_TCP + 2);
	FROM_NETWORK(R2, 16);
	ALU_K(BPF_AND, R2, (int32_t)FLOWS - 1);
	STORE(BPF_W, STACK, -4, R2); /* the key: the port says which connection */
	LOAD(BPF_W, SEQUENCE, PACKET, OFFSET_TCP + 4);
	FROM_NETWORK(SEQUENCE, 32);
}

/* Segments that two processors hand over may change places: the furthest end counts. */
static void emit_note_end(int map)
{
	emit_constant(R1, BPF_PSEUDO_MAP_FD, (uint32_t)map);
	MOVE(R2, STACK);
	ALU_K(BPF_ADD, R2, -4);
	CALL(BPF_FUNC_map_lookup_elem);
	JUMP_K(BPF_JEQ, R0, 0, TO_PASS);
	MOVE(R1, SEQUENCE);
	ALU32(BPF_ADD, R1, LENGTH);
	LOAD(BPF_W, R2, R0, offsetof(struct flow, end));
	MOVE(R3, R1);
	ALU32(BPF_SUB, R3, R2);
	emit(BPF_JMP32 | BPF_JSLE | BPF_K, R3, 0, 1, 0);
	STORE(BPF_W, R0, offsetof(struct flow, end), R1);
}

/* Compares the segment's first whole word with the file's pattern. */
static void emit_check(uint32_t file_mask)
{
	JUMP_K(BPF_JLT, LENGTH, 16, TO_DROP);
	MOVE(FLOW, R0);
	LOAD(BPF_W, R2, FLOW, offsetof(struct flow, base));
	ALU32(BPF_SUB, SEQUENCE, R2); /* now the offset in the file, modulo its size */
	SET(R2, 0);
	ALU32(BPF_SUB, R2, SEQUENCE);
	ALU32_K(BPF_AND, R2, 7);
	ALU(BPF_ADD, AT, R2);
	ALU32(BPF_ADD, SEQUENCE, R2);
	ALU32_K(BPF_AND, SEQUENCE, (int32_t)file_mask);
	MOVE(R1, SKB);
	MOVE(R2, AT);
	MOVE(R3, STACK);
	ALU_K(BPF_ADD, R3, -16);
	SET(R4, 8);
	CALL(BPF_FUNC_skb_load_bytes);
	JUMP_K(BPF_JNE, R0, 0, TO_DROP);
	ALU_K(BPF_RSH, SEQUENCE, 3);
	ALU_K(BPF_ADD, SEQUENCE, 1);
	emit_constant(R2, 0, PATTERN_FACTOR);
	ALU(BPF_MUL, SEQUENCE, R2);
	LOAD(BPF_DW, R1, STACK, -16);
	SET(R2, 1);
	JUMP(BPF_JEQ, R1, SEQUENCE, 2);
	ADD_ATOMICALLY(FLOW, offsetof(struct flow, wrong), R2);
	JUMP_K(BPF_JA, 0, 0, TO_DROP);
	ADD_ATOMICALLY(FLOW, offsetof(struct flow, checked), R2);
}

/* file_mask: the file's size less 1, or 0: nothing is compared. */
static void write_program(int map, uint32_t file_mask)
{
	int drop, pass;

	program_length = 0;
	emit_headers();
	emit_note_end(map);
	if (file_mask != 0)
		emit_check(file_mask);
	drop = program_length;
	SET(R0, TC_ACT_SHOT);
	emit(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	pass = program_length;
	SET(R0, TC_ACT_OK);
	emit(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	for (int i = 0; i < program_length; i++) {
		if (program[i].off == TO_PASS)
			program[i].off = (int16_t)(pass - i - 1);
		else if (program[i].off == TO_DROP)
			program[i].off = (int16_t)(drop - i - 1);
	}
}

/* ---- setting it up, in the coordinator ----------------------------------------------------- */

static bool load_program(int *fd)
{
	static char log[16384];
	union bpf_attr load;

	memset(&load, 0, sizeof(load));
	load.prog_type = BPF_PROG_TYPE_SCHED_CLS;
	load.insns = (uintptr_t)program;
	load.insn_cnt = (uint32_t)program_length;
	load.license = (uintptr_t) "Dual MIT/GPL";
	*fd = bpf(BPF_PROG_LOAD, &load);
	if (*fd >= 0)
		return true;
	load.log_buf = (uintptr_t)log; /* once more for the reason */
	load.log_size = sizeof(log);
	load.log_level = 1;
	bpf(BPF_PROG_LOAD, &load);
	return veth_cannot(&veth, "a BPF program: %s\n%s", strerror(errno), log);
}

static bool attach_program(uint32_t file_mask)
{
	union bpf_attr map = { .map_type = BPF_MAP_TYPE_ARRAY,
			       .key_size = 4,
			       .value_size = sizeof(struct flow),
			       .max_entries = FLOWS,
			       .map_flags = BPF_F_MMAPABLE };
	union bpf_attr link;
	int map_fd = bpf(BPF_MAP_CREATE, &map), fd;

	if (map_fd < 0)
		return veth_cannot(&veth, "a BPF map: %s", strerror(errno));
	flows = mmap(NULL, FLOWS * sizeof(*flows), PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
	if (flows == MAP_FAILED)
		return veth_cannot(&veth, "mapping a BPF map: %s", strerror(errno));
	write_program(map_fd, file_mask);
	if (!load_program(&fd))
		return false;
	memset(&link, 0, sizeof(link));
	link.link_create.prog_fd = (uint32_t)fd;
	link.link_create.target_ifindex = if_nametoindex(FAR_DEVICE);
	link.link_create.attach_type = ATTACH_TCX_INGRESS;
	if (bpf(BPF_LINK_CREATE, &link) < 0)
		return veth_cannot(&veth, "attaching a BPF program at tc ingress: %s (it needs Linux 6.6)",
				   strerror(errno));
	return true;
}

/* Reno unless another one is named, since CUBIC's HyStart leaves slow start early in some runs; a route with a large
 * window, and nothing learnt from one run for the next; no timestamps and no SACK, which bare acknowledgements would have to answer. */
static const char near_commands[] =
	"cd /proc/sys/net/ipv4 && echo 0 >tcp_timestamps && echo 0 >tcp_sack && echo 1 >tcp_no_metrics_save && "
	"echo reno >tcp_congestion_control && "
	"ip route change 10.77.0.0/24 dev " NEAR_DEVICE " src 10.77.0.1 initcwnd 1000";
/* The large buffer is for the scale of the window that the client offers. */
static const char far_commands[] =
	"cd /proc/sys/net/ipv4 && echo 0 >tcp_timestamps && echo 0 >tcp_sack && echo '4096 131072 67108864' >tcp_rmem";

const struct veth *wire_make(void)
{
	veth_make(&veth, near_commands, far_commands);
	return &veth;
}

const struct veth *wire_open(uint64_t file_size)
{
	if (wire_make()->why_not[0] == '\0') {
		veth_go(&veth, FAR);
		attach_program((uint32_t)file_size - 1);
		veth_go(&veth, HOME);
	}
	return &veth;
}

/* ---- the client ---------------------------------------------------------------------------- */

struct far_connection {
	int fd;
	uint32_t sequence; /* of the next byte that it would send */
	uint32_t acknowledged;
	uint32_t answer; /* HTTP: sequence number of the first byte of the present answer */
	uint16_t port;
};

struct packet {
	struct iphdr ip;
	struct tcphdr tcp;
	char request[REQUEST_MAX];
};

/* Each connection sends it when an answer, of that many bytes with its header, is complete.  Length 0: no HTTP. */
static struct {
	char text[REQUEST_MAX];
	uint32_t length, answer_length;
} request;

static struct packet packets[FLOWS];

/* The sequence number of the next byte to be sent, or to be received. */
static uint32_t sequence_of(struct shared *shared, int fd, int queue)
{
	int on = TCP_REPAIR_ON, off = TCP_REPAIR_OFF_NO_WP;
	uint32_t sequence;
	socklen_t length = sizeof(sequence);

	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof(queue)) < 0 ||
	    getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &sequence, &length) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off)) < 0)
		skip(shared, "TCP_REPAIR: %s", strerror(errno));
	return sequence;
}

static void connect_far(const struct setup *setup, struct shared *shared, struct far_connection *c, unsigned index)
{
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(FAR_ADDRESS) };

	c->port = (uint16_t)(FIRST_PORT + setup->number % PORT_SETS * FLOWS + index % FLOWS);
	own.sin_port = htons(c->port);
	c->fd = new_client_socket(shared);
	if (bind(c->fd, (struct sockaddr *)&own, sizeof(own)) < 0)
		fail(shared, "client: bind: %s", strerror(errno));
	if (connect(c->fd, (const struct sockaddr *)&setup->address, sizeof(setup->address)) < 0)
		fail(shared, "client: connect: %s", strerror(errno));
}

/* What the stream begins with goes through the socket; all that follows does not. */
static void begin_stream(struct shared *shared, struct far_connection *c, const void *first, uint32_t length,
			 uint32_t start)
{
	struct flow *flow = &flows[c->port % FLOWS];

	c->acknowledged = c->answer = sequence_of(shared, c->fd, TCP_RECV_QUEUE);
	c->sequence = sequence_of(shared, c->fd, TCP_SEND_QUEUE) + length;
	*flow = (struct flow){ .end = c->acknowledged, .base = c->acknowledged - start };
	if (send(c->fd, first, length, MSG_NOSIGNAL) != (ssize_t)length)
		fail(shared, "client: asking: %s", strerror(errno));
}

/* Connections start in different places of the file, or one's data would be in the cache for the others. */
static void begin_far(const struct setup *setup, struct shared *shared, struct far_connection *c, unsigned index)
{
	struct question question = { .length = setup->size };

	if (request.length > 0) {
		begin_stream(shared, c, request.text, request.length, 0);
		return;
	}
	question.offset = setup->file_size / setup->connections * index / setup->size * setup->size;
	begin_stream(shared, c, &question, (uint32_t)sizeof(question), (uint32_t)question.offset);
}

static uint16_t checksum(uint64_t sum, const void *data, size_t length)
{
	const uint16_t *words = data;

	for (size_t i = 0; i < length / 2; i++)
		sum += words[i];
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* length: of a request that it carries, behind which c->sequence is. */
static void make_segment(const struct setup *setup, const struct far_connection *c, struct packet *p, uint32_t length,
			 bool reset)
{
	uint64_t pseudo = (setup->address.sin_addr.s_addr & 0xffff) + (setup->address.sin_addr.s_addr >> 16) +
			  (htonl(FAR_ADDRESS) & 0xffff) + (htonl(FAR_ADDRESS) >> 16) + htons(IPPROTO_TCP) +
			  htons((uint16_t)(sizeof(p->tcp) + length));

	/* The kernel fills in the lengths and checksum of the IP header. */
	p->ip = (struct iphdr){ .version = 4,
				.ihl = 5,
				.ttl = 64,
				.protocol = IPPROTO_TCP,
				.frag_off = htons(0x4000),
				.saddr = htonl(FAR_ADDRESS),
				.daddr = setup->address.sin_addr.s_addr };
	p->tcp = (struct tcphdr){ .source = htons(c->port),
				  .dest = setup->address.sin_port,
				  .seq = htonl(c->sequence - length),
				  .ack_seq = htonl(c->acknowledged),
				  .doff = 5,
				  .ack = 1,
				  .psh = length > 0,
				  .rst = reset,
				  .window = 0xffff };
	/* The text is followed by zeros: the checksum takes whole words. */
	memcpy(p->request, request.text, length);
	p->tcp.check = checksum(pseudo, &p->tcp, sizeof(p->tcp) + (length + 1) / 2 * 2);
}

static void send_segments(struct shared *shared, int raw, const struct setup *setup, const uint32_t *lengths,
			  unsigned count)
{
	static struct mmsghdr messages[FLOWS];
	static struct iovec parts[FLOWS];
	unsigned sent = 0;

	for (unsigned i = 0; i < count; i++) {
		parts[i] = (struct iovec){ &packets[i], offsetof(struct packet, request) + lengths[i] };
		messages[i].msg_hdr = (struct msghdr){ .msg_name = (void *)&setup->address,
						       .msg_namelen = sizeof(setup->address),
						       .msg_iov = &parts[i],
						       .msg_iovlen = 1 };
	}
	while (sent < count) {
		int n = sendmmsg(raw, messages + sent, count - sent, 0);

		if (n < 0 && errno != ENOBUFS && errno != EINTR)
			fail(shared, "client: acknowledging: %s", strerror(errno));
		sent += n > 0 ? (unsigned)n : 1; /* what is lost is acknowledged again later */
	}
}

/* The length of the request that the next segment carries: the next one, or once more one that may be lost. */
static uint32_t next_request(struct shared *shared, struct far_connection *c, bool again)
{
	uint32_t got = c->acknowledged - c->answer;

	if (request.length == 0)
		return 0;
	if (got > request.answer_length)
		fail(shared, "client: an answer is longer than %" PRIu32 " bytes", request.answer_length);
	if (got == request.answer_length) {
		c->answer = c->acknowledged;
		c->sequence += request.length;
		count_checked(1);
		return request.length;
	}
	return got == 0 && again ? request.length : 0;
}

/* Looks once at what has come and answers it; how many bytes have come. */
static uint64_t acknowledge(struct shared *shared, int raw, const struct setup *setup, struct far_connection *all,
			    unsigned round)
{
	uint32_t lengths[FLOWS];
	uint64_t bytes = 0;
	unsigned count = 0;
	bool again = round % ACK_AGAIN == 0;

	for (unsigned i = 0; i < setup->connections; i++) {
		struct far_connection *c = &all[i];
		uint32_t end = __atomic_load_n(&flows[c->port % FLOWS].end, __ATOMIC_RELAXED);

		if (end == c->acknowledged && !again)
			continue;
		bytes += end - c->acknowledged;
		c->acknowledged = end;
		lengths[count] = next_request(shared, c, round % ASK_AGAIN == 0);
		make_segment(setup, c, &packets[count], lengths[count], false);
		count++;
	}
	send_segments(shared, raw, setup, lengths, count);
	return bytes;
}

static uint64_t words_checked(const struct setup *setup, struct shared *shared, const struct far_connection *all)
{
	uint64_t checked = 0;

	for (unsigned i = 0; i < setup->connections; i++) {
		const struct flow *flow = &flows[all[i].port % FLOWS];

		if (flow->wrong > 0)
			fail(shared, "WRONG DATA: %" PRIu64 " words of connection %u", flow->wrong, i);
		checked += flow->checked;
	}
	return checked;
}

/* The server's end would not believe a reset of the socket's, which knows nothing of what has come since. */
static void reset_all(struct shared *shared, int raw, const struct setup *setup, const struct far_connection *all)
{
	uint32_t lengths[FLOWS] = { 0 };

	for (unsigned i = 0; i < setup->connections; i++)
		make_segment(setup, &all[i], &packets[i], 0, true);
	send_segments(shared, raw, setup, lengths, setup->connections);
	for (unsigned i = 0; i < setup->connections; i++)
		close(all[i].fd);
}

void run_far_end(const struct setup *setup, struct shared *shared)
{
	struct far_connection *all = calloc(setup->connections, sizeof(*all));
	struct timespec pause = { .tv_nsec = ACK_NS };
	uint64_t warm, limit = UINT64_MAX, now;
	int raw = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	bool measuring = false;

	if (all == NULL || raw < 0)
		fail(shared, "client: a raw socket: %s", strerror(errno));
	prepare_measuring(setup, shared);
	prctl(PR_SET_TIMERSLACK, 1);
	for (unsigned i = 0; i < setup->connections; i++)
		connect_far(setup, shared, &all[i], i);
	while (!atomic_load(&shared->server_ready))
		usleep(200);
	for (unsigned i = 0; i < setup->connections; i++)
		begin_far(setup, shared, &all[i], i);
	warm = nanoseconds(CLOCK_MONOTONIC) + (uint64_t)(setup->warm_up * 1e9);
	for (unsigned round = 1;; round++) {
		nanosleep(&pause, NULL);
		now = nanoseconds(CLOCK_MONOTONIC);
		if (!measuring && now >= warm) {
			limit = begin_measuring(now);
			measuring = true;
		}
		if (is_over(now, limit))
			break;
		count_received(acknowledge(shared, raw, setup, all, round));
	}
	count_checked(words_checked(setup, shared, all));
	end_measuring(now);
	reset_all(shared, raw, setup, all);
}

void wire_get(const struct get *get, struct shared *shared)
{
	struct setup setup = {
		.connections = get->connections,
		.seconds = get->seconds,
		.warm_up = fmax(get->seconds * 0.2, 0.3),
		.control = eventfd(0, EFD_CLOEXEC),
		.address = { .sin_family = AF_INET,
			     .sin_addr.s_addr = htonl(NEAR_ADDRESS),
			     .sin_port = htons(get->port) },
		.number = (unsigned)getpid(),
	};
	int length = snprintf(request.text, sizeof(request.text), "GET %s HTTP/1.1\r\nHost: wire\r\n\r\n", get->path);

	if (length >= (int)sizeof(request.text))
		fail(shared, "client: the path is too long");
	request.length = (uint32_t)length;
	request.answer_length = get->answer_length;
	shared->server = get->server;
	shared->server_ready = 1;
	if (!attach_program(0))
		fail(shared, "client: %s", veth.why_not);
	run_far_end(&setup, shared);
}
