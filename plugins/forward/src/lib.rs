//! Filters events and forwards them to a sink.
