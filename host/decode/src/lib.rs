//! Payload bytes of every known engine to a batch in columns. Pure.
