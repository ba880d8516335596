// SPDX-License-Identifier: MIT OR Apache-2.0
//! The newer kernel features that a context may use.
#![forbid(unsafe_code)]

bitflags::bitflags! {
    /// The newer kernel features that a context uses.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct KernelFeatures: u64 {
        /// io_uring.
        const IO_URING = 1 << 0;
        /// IORING_OP_SEND_ZC (Linux 6.0).
        const SEND_ZC = 1 << 1;
        /// Notifications report whether the data was copied (Linux 6.2).
        const ZC_REPORT_USAGE = 1 << 2;
        /// Never set: this version does not use IORING_SETUP_DEFER_TASKRUN.
        const DEFER_TASKRUN = 1 << 3;
        /// The pool's memory is registered with io_uring.
        const REGISTERED_BUFFERS = 1 << 4;
        /// cachestat(2) (Linux 6.5).
        const CACHESTAT = 1 << 5;
    }
}
