/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An XDP program that lets every frame pass, for the receiving end of a veth pair. Without one a veth pair hands
 * the sender's pages to the receiver's stack, which copies them and reports so. With one the driver itself copies
 * each frame on arrival, as a network card does, and zero-copy is real at the sending end.
 */
#ifndef SNAPSEND_TORTURE_XDP_H
#define SNAPSEND_TORTURE_XDP_H

#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof *attr);
}

/* Attaches the program in the driver of an interface of the current network namespace. Returns the descriptor
 * that holds it there, or -1 with errno set. */
static inline int xdp_attach(const char *interface)
{
	const struct bpf_insn pass[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.prog_type = BPF_PROG_TYPE_XDP;
	attr.insns = (uint64_t)(uintptr_t)pass;
	attr.insn_cnt = sizeof pass / sizeof pass[0];
	attr.license = (uint64_t)(uintptr_t) "GPL";
	int program = bpf(BPF_PROG_LOAD, &attr);
	if (program < 0)
		return -1;
	memset(&attr, 0, sizeof attr);
	attr.link_create.prog_fd = (uint32_t)program;
	attr.link_create.target_ifindex = if_nametoindex(interface);
	attr.link_create.attach_type = BPF_XDP;
	attr.link_create.flags = XDP_FLAGS_DRV_MODE;
	int link = bpf(BPF_LINK_CREATE, &attr);
	close(program);
	return link;
}

#endif
