//! Passes the events of some media on to the plugins that name this one in `after`, and
//! counts what it passes and what it leaves out. `Operator::passes` is where the decision
//! is.

use penstock_sdk::{
    Batch, Change, Columns, Event, Medium, Plugin, Refused, SourceChange, emit, error,
    event::Common, info, metrics,
};

/// The table `config` of `my-plugin.toml`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Media whose events pass: `none`, `gpu`, `cpu`, `disk`, `external`, `unknown`.
    /// Empty: all of them.
    pub media: Vec<String>,
}

#[derive(Debug)]
pub struct Operator {
    media: Vec<Medium>,
}

impl Plugin for Operator {
    const NAME: &'static str = "my-plugin";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    // Each column costs a copy: ask for what is read.
    const COLUMNS: Columns = Columns::NONE;
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        let medium = |name: &String| {
            let found = Medium::ALL.into_iter().find(|m| m.name() == name);
            found.ok_or_else(|| format!("media: {name:?} is no medium"))
        };
        let media: Result<_, _> = config.media.iter().map(medium).collect();
        Ok(Self { media: media? })
    }

    fn on_batch(&mut self, batch: &Batch<'_>, _: &mut Refused) {
        let mut out = emit::Events::new();
        let (mut passed, mut left) = (0, 0);
        for event in batch.events() {
            // A clear concerns all media.
            if matches!(event, Event::Cleared(_)) || self.passes(event.common()) {
                // As it came. For events of your own: `out.stored(…)`, `out.removed(…)`.
                out.keep(&event);
                passed += 1;
            } else {
                left += 1;
            }
        }
        // Those after this plugin get one batch for this one, empty if nothing passes.
        if let Err(error) = out.emit() {
            error!("batch {} is not passed on: {error}", batch.sequence());
        }
        metrics::add("passed_events", passed);
        metrics::add("filtered_events", left);
    }

    fn on_source(&mut self, change: &SourceChange<'_>) {
        if let Change::Joined(source) = change.change {
            info!("{} joined", source.name);
        }
    }
}

impl Operator {
    fn passes(&self, event: &Common<'_>) -> bool {
        self.media.is_empty() || self.media.contains(&event.medium())
    }
}

penstock_sdk::export!(Operator);

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_sdk::testing::{self, Emitted, Host};

    #[test]
    fn only_some_media_pass() {
        let mut host = Host::<Operator>::start(r#"{"media": ["gpu"]}"#).unwrap();
        host.join(1, "vllm-0", "llama");
        host.send(
            testing::batch(1)
                .stored(testing::stored(16, &[10]))
                .removed(Medium::Cpu, 0, &[10])
                .cleared(),
        );
        assert_eq!(testing::emitted(), [Emitted::Kept(0), Emitted::Kept(2)]);
        assert_eq!(testing::counter("passed_events"), 2);
        assert_eq!(testing::counter("filtered_events"), 1);
    }

    #[test]
    fn media_are_known_by_name() {
        let refused = Host::<Operator>::start(r#"{"media": ["tape"]}"#);
        assert!(refused.unwrap_err().contains("tape"));
    }
}
