// SPDX-License-Identifier: MIT OR Apache-2.0
//! The counters of a context and a reading of them.  The ring thread and inline senders add to the
//! counters; any thread reads them.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters since creation, written by the ring thread and by inline senders.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub $name: AtomicU64,)*
            /// Gauges, see [`Stats`].
            pub pool_in_use: AtomicU64,
            pub pool_resident: AtomicU64,
            pub window_bytes: AtomicU64,
        }

        /// A reading: counters since creation, except for the gauges at the end.
        #[derive(Clone, Copy, Debug, Default)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Gauge: operations in flight, that is, accepted and not yet done.
            pub in_flight: u64,
            /// Gauge: bytes of private memory in use.
            pub pool_in_use: u64,
            /// Gauge: bytes of private memory held from the system.
            pub pool_resident: u64,
            /// Gauge: io_urings of the process that outlive their context until peers have
            /// acknowledged.
            pub rings_kept: u64,
            /// Gauge: bytes of address space that windows of files take.
            pub window_bytes: u64,
            /// Gauge: what copies of ranges from 128 KiB on cost from a mapping, in nanoseconds of
            /// processor time for each MiB; 0 until one was measured.
            pub copy_mapped_ns_per_mib: u64,
            /// Gauge: the same for copies through a buffer, 64 KiB at a time.
            pub copy_64k_ns_per_mib: u64,
            /// Gauge: the same, 256 KiB at a time.
            pub copy_256k_ns_per_mib: u64,
            /// Gauge: the same, 1 MiB at a time.
            pub copy_1m_ns_per_mib: u64,
        }

        impl Counters {
            pub fn read(&self) -> Stats {
                Stats {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    pool_in_use: self.pool_in_use.load(Ordering::Relaxed),
                    pool_resident: self.pool_resident.load(Ordering::Relaxed),
                    window_bytes: self.window_bytes.load(Ordering::Relaxed),
                    ..Stats::default()
                }
            }
        }
    };
}

counters! {
    /// Operations accepted.
    submitted,
    /// DONE with status 0.
    done_ok,
    /// DONE with a status other than 0 and -ECANCELED.
    done_error,
    /// DONE with -ECANCELED.
    cancelled,
    /// Bytes of ranges put into sockets.
    file_bytes,
    /// All bytes put into sockets.
    wire_bytes,
    /// Bytes of file data that were copied into socket buffers.
    bytes_copied,
    /// Bytes of file data that were sent from memory, or from the page cache, without a copy.
    bytes_zerocopy,
    /// Bytes of file data that the calling thread sent.
    bytes_inline,
    /// Notifications of zero-copy sends.
    zerocopy_notified,
    /// Notifications that report that the kernel copied anyway.
    zerocopy_copied_anyway,
    /// Bytes of file data that were sent straight from the page cache; `bytes_zerocopy` counts
    /// them, too.
    bytes_page_cache,
    /// Bytes of file data that were sent by reference because their content cannot change;
    /// `bytes_zerocopy` counts them, too.
    bytes_frozen,
    /// Snapshots of ranges beyond [`Info::exact_max`](crate::Info::exact_max), taken by cloning.
    snapshots_cloned,
    /// Connections that were reset to keep later changes of a file off the wire: an operation ended
    /// early, and the peer did not acknowledge its bytes in time.
    connections_reset,
    /// Times that the ring thread entered the kernel for requests.
    kernel_enters,
    /// Wake-ups of the ring thread.
    wakeups,
}

impl Counters {
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts the end of an operation by its status.
    pub fn count_done(&self, status: i32) {
        let counter = match status {
            0 => &self.done_ok,
            status if status == -libc::ECANCELED => &self.cancelled,
            _ => &self.done_error,
        };
        Counters::add(counter, 1);
    }
}
