//! From a door's question to the plugin that answers.

use super::shards::Shards;
use super::{Parts, merge};
use penstock_event::{Answer, LookupError, Query};
use penstock_plugin::{Reply as Back, Runner};
use penstock_query::{Lookups, Reply};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Who answers a lookup.
struct Answering {
    shards: Asked,
    /// Its name, where it comes after other plugins and may wait for them.
    waits: Option<String>,
}

enum Asked {
    One(Arc<Runner>),
    All(Shards),
}

impl Lookups for Parts {
    fn ask(&self, plugin: Option<&str>, query: Query, reply: Reply<Answer>) {
        let Answering { shards, waits } = match self.answering(plugin) {
            Ok(answering) => answering,
            Err(error) => return reply(Err(error)),
        };
        let reply = match waits {
            Some(name) => self.or_why(name, reply),
            None => reply,
        };
        match shards {
            Asked::One(runner) => runner.find(query, Back::new(reply, closed)),
            Asked::All(shards) => merge::ask(&shards, &self.late, &query, reply, closed),
        }
    }

    fn request(&self, plugin: &str, body: Vec<u8>, reply: Reply<Vec<u8>>) {
        let runner = {
            let table = self.plugins.lock();
            let running = table.get(plugin).and_then(|e| e.running.as_ref());
            // Who takes requests has no shards.
            let running = running.filter(|r| r.features.request);
            running.and_then(|r| Some(r.shards.list.first()?.runner.clone()))
        };
        let deadline = Duration::from_millis(self.config.query.deadline_ms);
        match runner {
            Some(runner) => runner.request(body.into(), deadline, Back::new(reply, closed)),
            None => reply(Err(
                self.none(Some(plugin), LookupError::NoRequests(plugin.into()))
            )),
        }
    }
}

impl Parts {
    /// Says why there is no source, where the plugin of this name waits for another one.
    fn or_why(&self, name: String, reply: Reply<Answer>) -> Reply<Answer> {
        let plugins = self.plugins.clone();
        Box::new(move |answer| {
            let none = matches!(&answer, Err(LookupError::NoModel(known)) if known.is_empty());
            let why = none.then(|| plugins.waits(&name)).flatten();
            reply(why.map_or(answer, |why| Err(LookupError::Failed(why))));
        })
    }

    /// The plugin named, or the config's default, or the only one that answers.
    fn answering(&self, plugin: Option<&str>) -> Result<Answering, LookupError> {
        let table = self.plugins.lock();
        let name = plugin.or(self.plugins.default.as_deref());
        let running = table.iter().find(|(n, e)| {
            let index = e.running.as_ref().is_some_and(|r| r.features.lookup);
            index && name.is_none_or(|name| name == *n)
        });
        if let Some((name, running)) = running.and_then(|(n, e)| Some((n, e.running.as_ref()?))) {
            let waits = !running.build.file.after.is_empty();
            let shards = match &running.shards.list[..] {
                [only] => Asked::One(only.runner.clone()),
                _ => Asked::All(running.shards.clone()),
            };
            let waits = waits.then(|| name.clone());
            return Ok(Answering { shards, waits });
        }
        drop(table);
        Err(self.none(name, LookupError::NoPlugin(name.unwrap_or_default().into())))
    }

    /// Why nobody answers: `otherwise`, unless one that may is being loaded.
    fn none(&self, name: Option<&str>, otherwise: LookupError) -> LookupError {
        let table = self.plugins.lock();
        let mut loading = table.iter().filter(|(n, e)| {
            e.loading && e.running.is_none() && name.is_none_or(|name| name == *n)
        });
        match loading.next() {
            Some((name, _)) => LookupError::Loading(name.clone()),
            None if self.plugins.starting.load(Relaxed) => LookupError::Loading(String::new()),
            None => otherwise,
        }
    }
}

fn closed<T>() -> Result<T, LookupError> {
    Err(LookupError::Failed(
        "the plugin ended before it answered".into(),
    ))
}
