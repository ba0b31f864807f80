//! What is asked while a recording is fed: `tests/NAME.toml`.

use anyhow::{Context, Result, bail};
use penstock_event::{By, Query};
use serde::Deserialize;
use std::path::Path;
use std::time::Duration;

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Model of the source.
    pub model: String,
    /// Questions, in order.
    pub ask: Vec<Ask>,
}

/// One question: a lookup, a request or a tick.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    /// Batches handed over before it; none: all of them.
    pub after: Option<u64>,
    tokens: Option<Vec<u32>>,
    token_hashes: Option<Vec<Hash>>,
    engine_hashes: Option<Vec<Hash>>,
    model: Option<String>,
    adapter: String,
    salt: String,
    request: Option<String>,
    tick: bool,
}

/// TOML's integers end at 2^63, so large hashes are strings.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Hash {
    Number(u64),
    Text(String),
}

/// What is asked.
pub enum Question {
    /// Who holds the prefix?
    Lookup(Query),
    /// In the plugin's own form.
    Request(String),
    /// A call now and then.
    Tick,
}

// === impl Script ===

impl Script {
    /// Reads the file; without one nothing is asked.
    pub fn read(path: &Path) -> Result<Self> {
        let at = path.display();
        let script: Self = match std::fs::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            read => {
                let text = read.with_context(|| format!("{at}: cannot be read"))?;
                toml::from_str(&text).with_context(|| at.to_string())?
            }
        };
        for ask in &script.ask {
            ask.question(&script.model)
                .with_context(|| at.to_string())?;
        }
        Ok(script)
    }
}

// === impl Ask ===

impl Ask {
    /// The question. `model` is the source's.
    ///
    /// # Errors
    /// It asks nothing, or two things at once.
    pub fn question(&self, model: &str) -> Result<Question> {
        let mut asked = Vec::new();
        if let Some(tokens) = &self.tokens {
            asked.push(self.lookup(model, By::Tokens(tokens.as_slice().into())));
        }
        if let Some(hashes) = &self.token_hashes {
            asked.push(self.lookup(model, By::TokenHashes(read(hashes)?.into())));
        }
        if let Some(hashes) = &self.engine_hashes {
            asked.push(self.lookup(model, By::EngineHashes(read(hashes)?.into())));
        }
        asked.extend(self.request.clone().map(Question::Request));
        if self.tick {
            asked.push(Question::Tick);
        }
        match (asked.pop(), asked.is_empty()) {
            (Some(question), true) => Ok(question),
            _ => bail!(
                "an [[ask]] has one of `tokens`, `token_hashes`, `engine_hashes`, `request` \
                 and `tick`"
            ),
        }
    }

    fn lookup(&self, model: &str, by: By) -> Question {
        Question::Lookup(Query {
            model: self.model.clone().unwrap_or_else(|| model.to_owned()),
            adapter: self.adapter.clone(),
            salt: self.salt.clone(),
            by,
            deadline: Duration::from_secs(1),
            include_stale: false,
        })
    }
}

fn read(hashes: &[Hash]) -> Result<Vec<u64>> {
    let number = |hash: &Hash| match hash {
        Hash::Number(number) => Ok(*number),
        Hash::Text(text) => text
            .parse()
            .with_context(|| format!("{text:?} is no hash: a number below 2^64")),
    };
    hashes.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(toml: &str) -> Result<Question> {
        toml::from_str::<Ask>(toml).unwrap().question("m")
    }

    #[test]
    fn an_ask_asks_one_thing() {
        let Ok(Question::Lookup(query)) =
            question("engine_hashes = [7, \"18446744073709551615\"]\nadapter = \"sql\"")
        else {
            panic!("no lookup");
        };
        assert_eq!(query.by, By::EngineHashes([7, u64::MAX].into()));
        assert_eq!((&*query.model, &*query.adapter), ("m", "sql"));
        assert!(matches!(question("tick = true"), Ok(Question::Tick)));
        for bad in ["", "tick = true\nrequest = \"x\"", "token_hashes = [\"x\"]"] {
            assert!(question(bad).is_err(), "{bad}");
        }
        assert!(toml::from_str::<Ask>("requests = \"x\"").is_err());
    }
}
