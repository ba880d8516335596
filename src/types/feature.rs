// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's newer features.
#![forbid(unsafe_code)]

bitflags::bitflags! {
    /// Which of the kernel's newer features a context uses.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct KernelFeatures: u64 {
        /// io_uring.
        const IO_URING = 1 << 0;
        /// IORING_OP_SEND_ZC (Linux 6.0).
        const SEND_ZC = 1 << 1;
        /// Notifications report whether the data was copied (Linux 6.2).
        const ZC_REPORT_USAGE = 1 << 2;
        /// Never set by this version: IORING_SETUP_DEFER_TASKRUN is not used any more.
        const DEFER_TASKRUN = 1 << 3;
        /// The pool's memory is registered with the ring.
        const REGISTERED_BUFFERS = 1 << 4;
        /// cachestat(2) (Linux 6.5).
        const CACHESTAT = 1 << 5;
    }
}
