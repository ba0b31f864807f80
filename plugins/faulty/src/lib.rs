//! Misbehaves on command: for tests.
