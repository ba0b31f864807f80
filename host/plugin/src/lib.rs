//! The plugin host: load, check, limit, call and swap WebAssembly components.
