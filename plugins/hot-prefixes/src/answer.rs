//! The document that is asked for: counts of all sources, added up by prefix.

use crate::Source;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Rows of an answer at most.
const MAX_TOP: usize = 1_000;

/// A question.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ask {
    /// Prefixes wanted, from 1 to 1000.
    pub top: usize,
    /// Those of this model alone.
    pub model: Option<String>,
    /// Those of at least this length.
    pub min_tokens: u32,
}

/// An answer.
#[derive(Debug, Serialize)]
pub struct Answer<'a> {
    /// Most hits first.
    pub prefixes: Vec<Row<'a>>,
}

/// What is known of one prefix.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    /// The sources' model.
    pub model: &'a str,
    /// Hash over its blocks, 16 hexadecimal digits: a `u64` is no JSON number.
    pub prefix: String,
    /// Length in blocks.
    pub blocks: u32,
    /// Length in tokens.
    pub tokens: u32,
    /// Times it was used again.
    pub hits: u64,
    /// How much too high that may be.
    pub error: u64,
    /// The same by source.
    pub sources: BTreeMap<&'a str, u64>,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            top: 10,
            model: None,
            min_tokens: 0,
        }
    }
}

/// The prefixes with most hits.
///
/// # Errors
/// `top` is out of range.
pub fn answer<'a>(
    ask: &Ask,
    sources: impl Iterator<Item = &'a Source>,
) -> Result<Answer<'a>, String> {
    if !(1..=MAX_TOP).contains(&ask.top) {
        return Err(format!("body: top: {} is not in 1–{MAX_TOP}", ask.top));
    }
    let mut rows: BTreeMap<(&str, u64), Row<'a>> = BTreeMap::new();
    for source in sources {
        if ask.model.as_ref().is_some_and(|m| *m != source.model) {
            continue;
        }
        for counter in source.sketch.counters() {
            let prefix = counter.prefix;
            if prefix.tokens < ask.min_tokens {
                continue;
            }
            let row = rows
                .entry((&source.model, prefix.id))
                .or_insert_with(|| Row {
                    model: &source.model,
                    prefix: format!("{:016x}", prefix.id),
                    blocks: prefix.blocks,
                    tokens: prefix.tokens,
                    hits: 0,
                    error: 0,
                    sources: BTreeMap::new(),
                });
            row.hits = row.hits.saturating_add(counter.hits);
            row.error = row.error.saturating_add(counter.error);
            row.sources.insert(&source.name, counter.hits);
        }
    }
    let mut prefixes: Vec<Row<'a>> = rows.into_values().collect();
    prefixes.sort_by_key(|row| (Reverse(row.hits), Reverse(row.tokens)));
    prefixes.truncate(ask.top);
    Ok(Answer { prefixes })
}
