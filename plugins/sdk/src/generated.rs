//! Bindings generated from the interface package, one module a world, so that
//! a component exports no more than its author names in [`export!`](crate::export).

#![allow(missing_docs, unsafe_code, clippy::all, clippy::pedantic)]

pub mod base {
    wit_bindgen::generate!({
        world: "plugin",
        path: "../../wit",
        pub_export_macro: true,
    });
}

pub mod emit {
    wit_bindgen::generate!({
        world: "with-emit",
        path: "../../wit",
    });
}

pub mod lookup {
    wit_bindgen::generate!({
        world: "with-lookup",
        path: "../../wit",
        pub_export_macro: true,
    });
}

pub mod request {
    wit_bindgen::generate!({
        world: "with-request",
        path: "../../wit",
        pub_export_macro: true,
    });
}

pub mod tick {
    wit_bindgen::generate!({
        world: "with-tick",
        path: "../../wit",
        pub_export_macro: true,
    });
}

pub mod state {
    wit_bindgen::generate!({
        world: "with-state",
        path: "../../wit",
        pub_export_macro: true,
        with: {
            "penstock:plugin/types@0.1.0": crate::generated::base::penstock::plugin::types,
        },
    });
}
