//! Topics from a template.

use penstock_sdk::{Batch, SourceChange, SourceId, SourceInfo};
use std::io::Write;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pieces: Vec<Piece>,
}

/// What a message is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    source: SourceId,
    info: Option<&'a SourceInfo>,
    rank: Option<u32>,
    epoch: u32,
    sequence: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Source,
    Instance,
    Rank,
    Model,
    Epoch,
    Sequence,
}

const KNOWN: &str = "{source}, {instance}, {rank}, {model}, {epoch}, {sequence}";

// === impl Subject ===

impl<'a> From<&Batch<'a>> for Subject<'a> {
    fn from(batch: &Batch<'a>) -> Self {
        Self {
            source: batch.source(),
            info: batch.info(),
            rank: batch.rank(),
            epoch: batch.epoch(),
            sequence: batch.sequence(),
        }
    }
}

impl<'a> Subject<'a> {
    /// A change, which has no sequence: 0 stands for it.
    #[must_use]
    pub fn of_change(change: &SourceChange<'a>, rank: Option<u32>) -> Self {
        Self {
            source: change.source,
            info: change.info,
            rank,
            epoch: change.epoch,
            sequence: 0,
        }
    }
}

// === impl Topic ===

impl Topic {
    /// Parses a template such as `kv@{source}@{model}`.
    ///
    /// # Errors
    /// An unknown or unclosed placeholder, with those that are known.
    ///
    /// ```
    /// use penstock_forward::Topic;
    /// assert!(Topic::parse("kv@{instance}").is_ok());
    /// assert!(Topic::parse("kv@{pod}").unwrap_err().contains("{instance}"));
    /// ```
    pub fn parse(template: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = template;
        while let Some((text, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(format!("topic {template:?}: a {{ is not closed"));
            };
            if !text.is_empty() {
                pieces.push(Piece::Text(text.to_owned()));
            }
            pieces.push(match name {
                "source" => Piece::Source,
                "instance" => Piece::Instance,
                "rank" => Piece::Rank,
                "model" => Piece::Model,
                "epoch" => Piece::Epoch,
                "sequence" => Piece::Sequence,
                _ => {
                    return Err(format!(
                        "topic {template:?}: {{{name}}} is not known; known are {KNOWN}"
                    ));
                }
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { pieces })
    }

    /// Appends the topic of `subject`. A source that the host did not introduce
    /// goes by its number.
    pub fn render(&self, subject: &Subject<'_>, out: &mut Vec<u8>) {
        let info = subject.info;
        for piece in &self.pieces {
            // Writing to a vector does not fail.
            let _ = match (piece, info) {
                (Piece::Text(text), _) => out.write_all(text.as_bytes()),
                (Piece::Source, Some(info)) => out.write_all(info.name.as_bytes()),
                (Piece::Instance, Some(info)) => out.write_all(info.instance.as_bytes()),
                (Piece::Model, Some(info)) => out.write_all(info.model.as_bytes()),
                (Piece::Model, None) => Ok(()),
                (Piece::Source | Piece::Instance, None) => write!(out, "{}", subject.source),
                (Piece::Rank, info) => {
                    let own = info.map_or(0, |info| info.rank);
                    write!(out, "{}", subject.rank.unwrap_or(own))
                }
                (Piece::Epoch, _) => write!(out, "{}", subject.epoch),
                (Piece::Sequence, _) => write!(out, "{}", subject.sequence),
            };
        }
    }
}
