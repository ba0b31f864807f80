//! End-to-end suites through the real binary.
