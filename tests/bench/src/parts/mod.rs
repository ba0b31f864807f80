//! What is measured, a part a file.

pub mod decode;
pub mod growth;
pub mod idle;
pub mod index;
pub mod lookup;
pub mod path;
pub mod shards;
pub mod start;
pub mod wasm;
