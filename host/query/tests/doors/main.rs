//! The doors through real sockets, over small stand-ins for the daemon.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod control;
mod http;
mod room;
mod router;
mod shutdown;
