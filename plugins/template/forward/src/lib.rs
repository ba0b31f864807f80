//! Publishes a message a batch: what was stored and removed, as JSON.

use penstock_sdk::{
    Batch, Change, Columns, Event, Plugin, Refused, SourceChange, info, metrics, publish, warn,
};

/// The table `config` of `my-plugin.toml`.
#[derive(Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The sink, `[sink.NAME]`.
    pub sink: String,
}

#[derive(Debug)]
pub struct Forward {
    config: Config,
}

impl Default for Config {
    fn default() -> Self {
        Self { sink: "out".into() }
    }
}

impl Plugin for Forward {
    const NAME: &'static str = "my-plugin";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    // Each column costs a copy: ask for what is read.
    const COLUMNS: Columns = Columns::NONE;
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        Ok(Self { config })
    }

    fn on_batch(&mut self, batch: &Batch<'_>, _: &mut Refused) {
        let (mut stored, mut removed, mut cleared) = (0, 0, false);
        for event in batch.events() {
            match event {
                Event::Stored(event) => stored += event.hashes().len(),
                Event::Removed(event) => removed += event.hashes().len(),
                Event::Cleared(_) => cleared = true,
            }
        }
        let source = batch.info().map_or("?", |info| info.name.as_str());
        let sequence = batch.sequence();
        let message = format!(
            r#"{{"sequence":{sequence},"stored":{stored},"removed":{removed},"cleared":{cleared}}}"#
        );
        let topic = format!("blocks@{source}");
        match publish::send(&self.config.sink, topic.as_bytes(), message.as_bytes()) {
            Ok(()) => metrics::add("sent", 1),
            // Never retried: the sink has left a number out, and who follows it knows.
            Err(error) => {
                metrics::add("lost", 1);
                warn!("batch {sequence} of {source}: {error}");
            }
        }
    }

    fn on_source(&mut self, change: &SourceChange<'_>) {
        match change.change {
            Change::Joined(source) => info!("{} joined", source.name),
            // Who follows the sink is to see that something is missing.
            Change::Gap { .. } => drop(publish::skip(&self.config.sink)),
            _ => {}
        }
    }
}

penstock_sdk::export!(Forward);

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_sdk::testing::{self, Host};

    #[test]
    fn each_batch_is_a_message() {
        let mut host = Host::<Forward>::start(r#"{"sink": "other"}"#).unwrap();
        host.join(1, "vllm-0", "llama");
        host.send(testing::batch(1).stored(testing::stored(16, &[10, 11])));
        let sent = testing::published();
        assert_eq!(sent[0].sink, "other");
        assert_eq!(sent[0].topic, b"blocks@vllm-0");
        let text = String::from_utf8(sent[0].payload.clone().unwrap()).unwrap();
        assert!(text.contains(r#""stored":2,"removed":0"#), "{text}");
        assert_eq!(testing::counter("sent"), 1);
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(Host::<Forward>::start(r#"{"sinks": "other"}"#).is_err());
    }
}
