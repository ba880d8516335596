// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mistakes that AddressSanitizer and LeakSanitizer must catch: tests/run-sanitizers runs these
//! first, each alone, and goes on only when each was caught.

/// Reads what has been freed.
#[test]
#[ignore = "must be caught by AddressSanitizer"]
fn use_after_free() {
    let memory = Box::into_raw(Box::new([1u8; 64]));
    // SAFETY: none, that is the point; it is run under AddressSanitizer only, which ends it.
    unsafe {
        drop(Box::from_raw(memory));
        std::hint::black_box(memory.read_volatile());
    }
}

/// Loses memory.
#[test]
#[ignore = "must be caught by LeakSanitizer"]
fn leak() {
    std::hint::black_box(Box::leak(Box::new([1u8; 64])));
}
