//! Bindings generated from `wit/` and `wasi/`.
//!
//! One set for the base world and one for each optional interface: the indices
//! of a world fail when one of its exports is missing. Types are borrowed, so
//! that columns go to the guest as slices.
//!
//! Written by a macro: what is unused or undocumented here is so in the macro's
//! output.

#![allow(missing_docs, unused_variables, clippy::all)]

/// What every plugin exports and may import.
pub(crate) mod base {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// `emit`.
pub(crate) mod emit {
    wasmtime::component::bindgen!({ path: "../../wit", world: "with-emit" });
}

/// `lookup`.
pub(crate) mod lookup {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "with-lookup",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// `request`.
pub(crate) mod request {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "with-request",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// `tick`.
pub(crate) mod tick {
    wasmtime::component::bindgen!({ path: "../../wit", world: "with-tick" });
}

/// `state`. Owned types: a borrowed `piece` does not compile in version 48.
pub(crate) mod state {
    wasmtime::component::bindgen!({ path: "../../wit", world: "with-state" });
}

/// The inert WASI.
pub(crate) mod wasi {
    wasmtime::component::bindgen!({
        path: "wasi",
        world: "inert",
        imports: { default: trappable },
        with: {
            "wasi:io/error.error": crate::wasi::IoError,
            "wasi:io/poll.pollable": crate::wasi::Pollable,
            "wasi:io/streams.input-stream": crate::wasi::InputStream,
            "wasi:io/streams.output-stream": crate::wasi::OutputStream,
            "wasi:cli/terminal-input.terminal-input": crate::wasi::Terminal,
            "wasi:cli/terminal-output.terminal-output": crate::wasi::Terminal,
        },
    });
}
