//! [`export!`](crate::export): from a type to the exports of a component.

/// Makes a component of a type that implements [`Plugin`](crate::Plugin), and
/// of those optional traits that are named; no other interface is exported.
///
/// ```
/// # use penstock_sdk::*;
/// # struct Index;
/// # impl Plugin for Index {
/// #     const NAME: &'static str = "index";
/// #     const VERSION: &'static str = "0";
/// #     const COLUMNS: Columns = Columns::NONE;
/// #     type Config = NoConfig;
/// #     fn new(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// #     fn on_batch(&mut self, _: &Batch<'_>, _: &mut Refused) {}
/// # }
/// impl Lookup for Index {
///     fn find(&mut self, _: &Query) -> Result<Vec<Row>, String> {
///         Err("nothing is indexed".to_owned())
///     }
/// }
/// impl Tick for Index {
///     fn interval_ms(&self) -> u32 { 1_000 }
///     fn tick(&mut self) {}
/// }
/// penstock_sdk::export!(Index: Lookup, Tick);
/// ```
///
/// A trait that is named but not implemented does not compile:
///
/// ```compile_fail,E0277
/// # use penstock_sdk::*;
/// # struct Index;
/// # impl Plugin for Index {
/// #     const NAME: &'static str = "index";
/// #     const VERSION: &'static str = "0";
/// #     const COLUMNS: Columns = Columns::NONE;
/// #     type Config = NoConfig;
/// #     fn new(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// #     fn on_batch(&mut self, _: &Batch<'_>, _: &mut Refused) {}
/// # }
/// penstock_sdk::export!(Index: Lookup);
/// ```
///
/// Outside wasm32 it only checks the traits, so that a plugin's crate can be a
/// library for tests and benchmarks too.
#[macro_export]
macro_rules! export {
    ($plugin:ident) => { $crate::export!($plugin:); };
    ($plugin:ident : $($extra:ident),* $(,)?) => {
        const _: () = {
            const fn is_plugin<T: $crate::Plugin>() {}
            is_plugin::<$plugin>();
            $({
                const fn implements<T: $crate::$extra>() {}
                implements::<$plugin>();
            })*
        };

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: ::std::cell::RefCell<$crate::Instance<$plugin>> =
                    const { ::std::cell::RefCell::new($crate::Instance::new()) };
            }

            struct Component;

            impl $crate::generated::base::exports::penstock::plugin::guest::Guest for Component {
                fn describe()
                -> $crate::generated::base::exports::penstock::plugin::guest::Description {
                    $crate::during($crate::Instance::<$plugin>::describe_wire)
                }
                fn init(config: ::std::string::String)
                -> ::std::result::Result<(), ::std::string::String> {
                    $crate::during(|| INSTANCE.with_borrow_mut(|i| i.init(&config)))
                }
                fn on_batch(batch: $crate::RawBatch) -> ::std::vec::Vec<$crate::Refusal> {
                    $crate::during(|| INSTANCE.with_borrow_mut(|i| i.on_batch(&batch)))
                }
                fn on_source(change: $crate::RawChange) {
                    $crate::during(|| INSTANCE.with_borrow_mut(|i| i.on_source(change)));
                }
            }
            $crate::generated::base::export!(Component with_types_in $crate::generated::base);

            $($crate::__export_optional!($extra);)*
        };
    };
}

/// The exports of one optional interface, beside `Component` and `INSTANCE`.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_optional {
    (Lookup) => {
        impl $crate::generated::lookup::exports::penstock::plugin::lookup::Guest for Component {
            fn find(
                query: $crate::generated::lookup::exports::penstock::plugin::lookup::Query,
            ) -> ::std::result::Result<::std::vec::Vec<u32>, ::std::string::String> {
                $crate::during(|| INSTANCE.with_borrow_mut(|i| i.find_wire(query)))
            }
        }
        $crate::generated::lookup::export!(Component with_types_in $crate::generated::lookup);
    };
    (Request) => {
        impl $crate::generated::request::exports::penstock::plugin::request::Guest for Component {
            fn handle(
                body: ::std::vec::Vec<u8>,
            ) -> ::std::result::Result<::std::vec::Vec<u8>, ::std::string::String> {
                $crate::during(|| INSTANCE.with_borrow_mut(|i| i.handle(&body)))
            }
        }
        $crate::generated::request::export!(Component with_types_in $crate::generated::request);
    };
    (Tick) => {
        impl $crate::generated::tick::exports::penstock::plugin::tick::Guest for Component {
            fn interval() -> u32 {
                $crate::during(|| INSTANCE.with_borrow_mut(|i| i.interval_ms()))
            }
            fn tick() {
                $crate::during(|| INSTANCE.with_borrow_mut(|i| i.tick()));
            }
        }
        $crate::generated::tick::export!(Component with_types_in $crate::generated::tick);
    };
    (State) => {
        impl $crate::generated::state::exports::penstock::plugin::state::Guest for Component {
            fn snapshot(
                source: u32,
                cursor: u64,
                max_bytes: u32,
            ) -> ::std::result::Result<$crate::Piece, ::std::string::String> {
                $crate::during(|| INSTANCE.with_borrow_mut(|i| i.snapshot(source, cursor, max_bytes)))
            }
            fn restore(
                source: u32,
                schema: u32,
                bytes: ::std::vec::Vec<u8>,
            ) -> ::std::result::Result<(), ::std::string::String> {
                $crate::during(|| INSTANCE.with_borrow_mut(|i| i.restore(source, schema, &bytes)))
            }
        }
        $crate::generated::state::export!(Component with_types_in $crate::generated::state);
    };
}

/// Runs one call of the host.
#[doc(hidden)]
#[inline]
pub fn during<T>(call: impl FnOnce() -> T) -> T {
    #[cfg(all(
        target_arch = "wasm32",
        feature = "allocator",
        not(target_feature = "atomics")
    ))]
    return crate::arena::exported::ARENA.during(call);
    #[allow(unreachable_code)]
    call()
}

/// Whether what imports answer comes from the general allocator, as it must within a call.
#[doc(hidden)]
#[must_use]
pub fn answers_may_be_freed_by_c() -> bool {
    #[cfg(all(
        target_arch = "wasm32",
        feature = "allocator",
        not(target_feature = "atomics")
    ))]
    return !crate::arena::exported::ARENA.is_open();
    #[allow(unreachable_code)]
    true
}
