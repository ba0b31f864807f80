//! Lookups and control through every door of a running daemon.

mod answers;
mod doors;
mod limits;
mod operators;
mod registered;
