//! Sockets of the engines to ordered, decoded batches.
