//! What the suites share: the oracle, the daemon as a process, faults.
