// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bits of [`crate::Info::kernel_features`]: which of the kernel's newer features are in use.
#![forbid(unsafe_code)]

/// io_uring is in use.
pub const IO_URING: u64 = 1 << 0;
/// IORING_OP_SEND_ZC (Linux 6.0).
pub const SEND_ZC: u64 = 1 << 1;
/// Notifications tell whether the data was copied (Linux 6.2).
pub const ZC_REPORT_USAGE: u64 = 1 << 2;
/// Never set by this version: IORING_SETUP_DEFER_TASKRUN is not used any more.
pub const DEFER_TASKRUN: u64 = 1 << 3;
/// The pool's memory is registered with the ring.
pub const REGISTERED_BUFFERS: u64 = 1 << 4;
/// cachestat(2) (Linux 6.5).
pub const CACHESTAT: u64 = 1 << 5;
