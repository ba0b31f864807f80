//! What plugins say while somebody looks on: their log lines and numbers, of this thread
//! alone, for `penstock plugin test`.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Target of the lines that plugins write.
const PLUGIN: &str = "plugin";

/// A line that a plugin wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// What it says.
    pub text: String,
}

/// Catches what is logged and counted within [`Watch::within`].
pub struct Watch {
    lines: Arc<Mutex<Vec<Line>>>,
    dispatch: Dispatch,
    recorder: PrometheusRecorder,
}

struct Collector(Arc<Mutex<Vec<Line>>>);

#[derive(Default)]
struct Message(String);

// === impl Watch ===

impl Watch {
    /// Nothing said yet.
    #[must_use]
    pub fn new() -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let collector = Collector(lines.clone());
        Self {
            lines,
            dispatch: Dispatch::new(tracing_subscriber::registry().with(collector)),
            recorder: PrometheusBuilder::new().build_recorder(),
        }
    }

    /// Does something on this thread and listens.
    pub fn within<R>(&self, body: impl FnOnce() -> R) -> R {
        let listening = || tracing::dispatcher::with_default(&self.dispatch, body);
        metrics::with_local_recorder(&self.recorder, listening)
    }

    /// Takes the lines written since the last time.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// Everything counted so far, as `/metrics` would print it.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.recorder.handle().render()
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

// === impl Collector ===

impl<S: Subscriber> Layer<S> for Collector {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != PLUGIN {
            return;
        }
        let mut message = Message::default();
        event.record(&mut message);
        let line = Line {
            level: event.metadata().level().as_str().to_ascii_lowercase(),
            text: message.0,
        };
        self.0.lock().unwrap_or_else(|e| e.into_inner()).push(line);
    }
}

// === impl Message ===

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // Writing to a String cannot fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_lines_and_numbers_are_caught_and_no_others() {
        let watch = Watch::new();
        let said = watch.within(|| {
            tracing::info!(target: "plugin", plugin = "p", "one {}", 1);
            tracing::info!("the daemon's own");
            metrics::counter!("penstock_plugin_custom_hits", "plugin" => "p").increment(3);
            7
        });
        tracing::error!(target: "plugin", "nobody listens");
        let (level, text) = ("info".to_string(), "one 1".to_string());
        assert_eq!((said, watch.lines()), (7, vec![Line { level, text }]));
        assert!(watch.metrics().contains("hits{plugin=\"p\"} 3"));
        assert_eq!(watch.lines(), []);
    }
}
