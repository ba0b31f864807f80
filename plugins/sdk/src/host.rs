//! What a plugin asks of the host. Each module is one grant: a component that
//! uses it imports it, and is not loaded unless the operator grants it.
//!
//! Outside wasm32 there is no host: logs go to stderr, and what is counted and
//! published is kept for [`crate::testing`] to look at.

#[cfg(target_arch = "wasm32")]
use crate::generated::base::penstock::plugin as imports;
#[cfg(not(target_arch = "wasm32"))]
use crate::native as imports;

/// Grant `log`: lines in the daemon's log, under the plugin's name. The macros
/// [`crate::error!`] to [`crate::trace!`] format into it.
pub mod log {
    /// How grave a line is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Level {
        /// Data is lost or a person is needed.
        Error = 0,
        /// Nothing is lost.
        Warn = 1,
        /// News.
        Info = 2,
        /// For authors.
        Debug = 3,
        /// For authors, often.
        Trace = 4,
    }

    /// Writes one line. Long ones are cut, a flood is limited by the host.
    pub fn write(level: Level, message: &str) {
        super::imports::log::write(level as u8, message);
    }
}

/// Grant `metrics`: numbers in the daemon's metrics, labelled with the plugin's
/// name. Names are `[a-z_][a-z0-9_]*`. A call costs a crossing: not per event.
///
/// ```
/// use penstock_sdk::{metrics, testing};
/// metrics::add("batches", 1); // penstock_plugin_custom_batches{plugin="NAME"}
///
/// let mut blocks = metrics::Counter::new("blocks"); // for each event
/// blocks.add(3);
/// blocks.add(4);
/// assert_eq!(testing::counter("blocks"), 0);
/// blocks.flush(); // for each batch, or each tick
/// assert_eq!(testing::counter("blocks"), 7);
///
/// let mut held = metrics::Gauge::new("held");
/// held.set(12.0);
/// assert_eq!(testing::gauge("held"), Some(12.0));
/// ```
pub mod metrics {
    /// Adds to a counter.
    pub fn add(name: &str, value: u64) {
        super::imports::metrics::add(name, value);
    }

    /// Sets a gauge.
    pub fn set(name: &str, value: f64) {
        super::imports::metrics::set(name, value);
    }

    /// A counter that is added up here and handed over now and then.
    #[derive(Debug)]
    pub struct Counter {
        name: &'static str,
        pending: u64,
    }

    impl Counter {
        /// A counter of this name.
        #[must_use]
        pub const fn new(name: &'static str) -> Self {
            Self { name, pending: 0 }
        }

        /// Adds, without a call.
        pub fn add(&mut self, value: u64) {
            self.pending = self.pending.saturating_add(value);
        }

        /// Hands over what was added since the last time; no call for nothing.
        pub fn flush(&mut self) {
            if self.pending > 0 {
                add(self.name, std::mem::take(&mut self.pending));
            }
        }
    }

    /// A gauge that is handed over when it moved.
    #[derive(Debug)]
    pub struct Gauge {
        name: &'static str,
        told: Option<f64>,
    }

    impl Gauge {
        /// A gauge of this name.
        #[must_use]
        pub const fn new(name: &'static str) -> Self {
            Self { name, told: None }
        }

        /// Sets it; no call when it stands there already.
        pub fn set(&mut self, value: f64) {
            if self.told.replace(value) != Some(value) {
                set(self.name, value);
            }
        }
    }
}

/// Grant `clock`: without it, time stands still at 0.
pub mod clock {
    /// µs since 1970.
    #[must_use]
    pub fn now_us() -> i64 {
        super::imports::clock::now()
    }

    /// Nanoseconds from an arbitrary start, never going back.
    #[must_use]
    pub fn monotonic_ns() -> u64 {
        super::imports::clock::monotonic()
    }
}

/// Grant `publish`: messages to the sinks of the plugin's file. Never blocks.
pub mod publish {
    use std::fmt;

    /// Why a message was not queued.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum PublishError {
        /// The sink's queue is full.
        Full,
        /// No sink of that name.
        NoSink,
        /// The sink is closed.
        Closed,
        /// The message is too large.
        TooLarge,
        /// Called outside of a batch.
        NoBatch,
        /// A code of a later host.
        Other(u32),
    }

    impl PublishError {
        /// The error of a code from the host.
        #[must_use]
        pub fn from_code(code: u32) -> Self {
            match code {
                1 => Self::Full,
                2 => Self::NoSink,
                3 => Self::Closed,
                4 => Self::TooLarge,
                5 => Self::NoBatch,
                other => Self::Other(other),
            }
        }

        /// Its code.
        #[must_use]
        pub fn code(self) -> u32 {
            match self {
                Self::Full => 1,
                Self::NoSink => 2,
                Self::Closed => 3,
                Self::TooLarge => 4,
                Self::NoBatch => 5,
                Self::Other(code) => code,
            }
        }
    }

    impl fmt::Display for PublishError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Full => write!(f, "the sink's queue is full"),
                Self::NoSink => write!(f, "no sink of that name"),
                Self::Closed => write!(f, "the sink is closed"),
                Self::TooLarge => write!(f, "the message is too large"),
                Self::NoBatch => write!(f, "called outside of a batch"),
                Self::Other(code) => write!(f, "refused with code {code}"),
            }
        }
    }

    impl std::error::Error for PublishError {}

    /// Queues a message. It carries the position of the batch being handled.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was queued.
    pub fn send(sink: &str, topic: &[u8], payload: &[u8]) -> Result<(), PublishError> {
        super::imports::publish::send(sink, topic, payload).map_err(PublishError::from_code)
    }

    /// Queues the payload of the batch being handled, as it came, without a
    /// copy through the component.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was queued.
    pub fn forward(sink: &str, topic: &[u8]) -> Result<(), PublishError> {
        super::imports::publish::forward(sink, topic).map_err(PublishError::from_code)
    }

    /// Leaves a number out of the sink's sequence, before the next message: for
    /// batches that will never come, so that who follows the sink sees a gap. A
    /// message that was refused has left its number out already.
    ///
    /// # Errors
    /// [`PublishError::NoSink`], [`PublishError::Closed`].
    pub fn skip(sink: &str) -> Result<(), PublishError> {
        super::imports::publish::skip(sink).map_err(PublishError::from_code)
    }
}

macro_rules! level_macros {
    ($d:tt $($name:ident $level:ident $doc:literal;)*) => {$(
        #[doc = $doc]
        #[macro_export]
        macro_rules! $name {
            ($d($d arg:tt)*) => {
                $crate::log::write($crate::log::Level::$level, &::std::format!($d($d arg)*))
            };
        }
    )*};
}

level_macros! { $
    error Error "Logs that data is lost or a person is needed. Arguments as for [`format!`].";
    warn Warn "Logs that something is wrong and nothing is lost. Arguments as for [`format!`].";
    info Info "Logs news. Arguments as for [`format!`].";
    debug Debug "Logs for authors. Arguments as for [`format!`].";
    trace Trace "Logs for authors, often. Arguments as for [`format!`].";
}
