//! What can go wrong in a call, and where.
//!
//! | fault | |
//! |---|---|
//! | `none` | nothing |
//! | `trap` | the `unreachable` instruction |
//! | `panic` | a panic, reported by the kit |
//! | `exit` | leaves through WASI's `exit` |
//! | `recurse` | until the stack is full |
//! | `loop` | for ever, without a host call |
//! | `sleep` | `thread::sleep` for a day |
//! | `poll` | WASI's `poll` on a timer of a day and on stdin |
//! | `c-poll` | C's own `poll`, which frees what the host answers; no fault of anybody's |
//! | `stdin` | reads stdin to its end |
//! | `grow` | takes memory until there is none |
//! | `leak` | 1 MiB a call, never given back |
//! | `flood-log` | 1,000,000 lines, then one of 16 MiB |
//! | `flood-stderr` | 64 MiB to stderr, without an end of line |
//! | `flood-metrics` | 100,000 series, and names that are none |
//! | `flood-publish` | 1,000,000 messages of 1 KiB, then one of 256 MiB |
//! | `error` | the call's error, where it has one; else events refused |
//! | `error-huge` | the same with a text of 16 MiB |
//! | `lie-…` | see [`crate::lies`] |

use penstock_sdk::{clock, log, metrics, publish};
use std::io::{Read, Write};
use std::time::Duration;

macro_rules! table {
    ($(#[$doc:meta])* $ty:ident { $($name:literal => $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum $ty { $($variant),* }

        impl $ty {
            /// All of them, by name.
            pub const ALL: &'static [(&'static str, Self)] = &[$(($name, Self::$variant)),*];

            /// The one of this name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, it)| *it)
            }
        }
    };
}

table! {
    /// What goes wrong.
    Fault {
        "none" => None,
        "trap" => Trap,
        "panic" => Panic,
        "exit" => Exit,
        "recurse" => Recurse,
        "loop" => Loop,
        "sleep" => Sleep,
        "poll" => Poll,
        "c-poll" => CPoll,
        "stdin" => Stdin,
        "grow" => Grow,
        "leak" => Leak,
        "flood-log" => FloodLog,
        "flood-stderr" => FloodStderr,
        "flood-metrics" => FloodMetrics,
        "flood-publish" => FloodPublish,
        "error" => Error,
        "error-huge" => ErrorHuge,
        "lie-refusals" => LieRefusals,
        "lie-refusals-huge" => LieRefusalsHuge,
        "lie-rows-unknown" => LieRowsUnknown,
        "lie-rows-length" => LieRowsLength,
        "lie-rows-absurd" => LieRowsAbsurd,
        "lie-rows-huge" => LieRowsHuge,
        "lie-reply-huge" => LieReplyHuge,
        "lie-interval" => LieInterval,
        "lie-piece-huge" => LiePieceHuge,
        "lie-piece-endless" => LiePieceEndless,
        "lie-piece-wrong" => LiePieceWrong,
    }
}

table! {
    /// Where it goes wrong: the export.
    Place {
        "init" => Init,
        "on-batch" => OnBatch,
        "on-source" => OnSource,
        "find" => Find,
        "handle" => Handle,
        "interval" => Interval,
        "tick" => Tick,
        "snapshot" => Snapshot,
        "restore" => Restore,
    }
}

/// The names of all faults.
#[must_use]
pub fn names() -> String {
    let all: Vec<&str> = Fault::ALL.iter().map(|(name, _)| *name).collect();
    all.join(", ")
}

/// The names of all places.
#[must_use]
pub fn places() -> String {
    let all: Vec<&str> = Place::ALL.iter().map(|(name, _)| *name).collect();
    all.join(", ")
}

const DAY: Duration = Duration::from_secs(86_400);

impl Fault {
    /// Shows the fault; returns when the host lets it.
    ///
    /// # Errors
    /// Those of `error` and `error-huge`.
    pub fn show(self, leaked: &mut Vec<Vec<u8>>) -> Result<(), String> {
        match self {
            Self::Trap => trap(),
            #[allow(clippy::panic)]
            Self::Panic => panic!("told to"),
            Self::Exit => std::process::exit(3),
            Self::Recurse => drop(recurse(0)),
            Self::Loop => spin(),
            Self::Sleep => std::thread::sleep(DAY),
            Self::Poll => poll(),
            Self::CPoll => c_poll(),
            Self::Stdin => drop(std::io::stdin().read_to_end(&mut Vec::new())),
            Self::Grow => loop {
                leaked.push(touched(16 << 20));
            },
            Self::Leak => leaked.push(touched(1 << 20)),
            Self::FloodLog => {
                for i in 0..1_000_000 {
                    log::write(log::Level::Info, &format!("line {i}\nsecond line"));
                }
                log::write(log::Level::Error, &"x".repeat(16 << 20));
            }
            Self::FloodStderr => {
                for _ in 0..1_024 {
                    // A host that refuses the bytes is right.
                    let _ = std::io::stderr().write_all(&[b'x'; 64 << 10]);
                }
            }
            Self::FloodMetrics => {
                for i in 0..100_000 {
                    metrics::add(&format!("series_{i}"), 1);
                    metrics::set(&format!("bad name {i}\n"), f64::NAN);
                }
                metrics::add("batches", u64::MAX);
                metrics::add(&"x".repeat(1 << 20), 1);
            }
            Self::FloodPublish => {
                for i in 0..1_000_000u32 {
                    // Refused is what most of them are to be.
                    let _ = publish::send("out", &i.to_le_bytes(), &[0; 1_024]);
                    let _ = publish::forward("out", b"again");
                }
                let _ = publish::send("nowhere", b"", b"");
                let _ = publish::send("out", b"huge", &vec![0; 256 << 20]);
            }
            Self::Error => return Err("told to".to_owned()),
            Self::ErrorHuge => return Err("x".repeat(16 << 20)),
            _ => {}
        }
        Ok(())
    }
}

/// Memory that is really there.
fn touched(bytes: usize) -> Vec<u8> {
    vec![0xa5; bytes]
}

/// Ends the instance with a bare trap.
pub fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort()
}

/// Runs for ever.
pub fn spin() -> ! {
    let mut turns = 0u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    recurse(depth + 1).wrapping_add(frame[0])
}

/// Waits in C for a millisecond: the list that the host answers goes to C's `free`, which must
/// not be given what is the kit's.
fn c_poll() {
    assert!(penstock_sdk::answers_may_be_freed_by_c());
    #[cfg(target_os = "wasi")]
    {
        #[allow(unsafe_code)]
        unsafe extern "C" {
            fn poll(list: *mut std::ffi::c_void, many: std::ffi::c_ulong, ms: i32) -> i32;
        }
        // SAFETY: a list of nothing is not looked at.
        #[allow(unsafe_code)]
        unsafe {
            poll(std::ptr::null_mut(), 0, 1)
        };
    }
}

/// Waits for what does not come.
fn poll() {
    // The clock first: a host may charge for asking it.
    let _ = clock::monotonic_ns();
    #[cfg(all(target_os = "wasi", target_env = "p2"))]
    {
        let timer = wasip2::clocks::monotonic_clock::subscribe_duration(DAY.as_nanos() as u64);
        let stdin = wasip2::cli::stdin::get_stdin();
        let input = stdin.subscribe();
        let ready = wasip2::io::poll::poll(&[&timer, &timer]);
        drop(ready);
        drop(wasip2::io::poll::poll(&[&timer, &input]));
        timer.block();
    }
    #[cfg(not(all(target_os = "wasi", target_env = "p2")))]
    std::thread::sleep(DAY);
}
