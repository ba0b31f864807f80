//! The shape of an answer, the same in JSON and msgpack: that of Dynamo's
//! standalone indexer, with what it lacks (positions, completeness) added.

use penstock_event::{Answer, Link, SourcePosition};
use serde::de::{DeserializeSeed, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// Positions reserved on a map's own word before any has come.
const MAX_RESERVE: usize = 4_096;

/// Every state of a link.
const LINKS: [Link; 5] = [
    Link::Live,
    Link::Connecting,
    Link::Down,
    Link::Stale,
    Link::Left,
];

/// A data-parallel rank as a key: a string on the wire, as JSON wants its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(pub u32);

/// Who holds how much of the prefix, and how far each source had been applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerBody {
    /// Instance -> rank -> tokens of the prefix held in any medium; 0 when asked
    /// by hashes whose block size is unknown (see [`InstanceBody::blocks`]).
    pub scores: BTreeMap<Arc<str>, BTreeMap<Rank, u32>>,
    /// Always empty; Dynamo's routers expect it.
    #[serde(default)]
    pub frequencies: Vec<u64>,
    /// The same by instance and medium.
    #[serde(default)]
    pub instances: BTreeMap<Arc<str>, InstanceBody>,
    /// Every source of the model by its unique name.
    #[serde(default, deserialize_with = "read_positions")]
    pub positions: BTreeMap<Arc<str>, PositionBody>,
    /// Sources that are not answered for now: stale, or their plugin instance is down.
    #[serde(default)]
    pub unavailable: Vec<Arc<str>>,
}

/// What one instance holds. Numbers are tokens and, for an instance of several
/// ranks, those of the best rank: each number on its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceBody {
    /// In whatever medium.
    pub longest_matched: u32,
    /// In device memory.
    pub gpu: u32,
    /// In host memory.
    pub cpu: u32,
    /// On disk.
    pub disk: u32,
    /// In an external store, or a medium not named or unknown.
    pub other: u32,
    /// Rank -> tokens.
    pub dp: BTreeMap<Rank, u32>,
    /// Rank -> consecutive blocks.
    pub blocks: BTreeMap<Rank, u32>,
}

/// How far a source had been applied when the lookup ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionBody {
    /// Its engine instance, as `scores` names it.
    #[serde(deserialize_with = "read_text")]
    pub instance: Arc<str>,
    /// Restarts seen; null before the first batch.
    pub epoch: Option<u32>,
    /// The publisher's number of the last batch applied; null before the first.
    pub sequence: Option<u64>,
    /// Nothing is known to be missing.
    pub complete: bool,
    /// The end of the stream can be checked.
    pub verified: bool,
    /// `connecting`, `live`, `down`, `stale` or `left`.
    #[serde(deserialize_with = "read_link")]
    pub link: Cow<'static, str>,
}

// An answer names every source of its model, dozens as a rule: what is read here must not
// allocate a text twice, nor one that is known.

/// A text, or what comes of it.
struct Text<T>(PhantomData<T>);

trait OfText: Sized {
    fn of(text: &str) -> Self;
}

impl OfText for Arc<str> {
    fn of(text: &str) -> Self {
        text.into()
    }
}

impl OfText for Cow<'static, str> {
    fn of(text: &str) -> Self {
        let known = LINKS.into_iter().map(link_name).find(|name| *name == text);
        known.map_or_else(|| Cow::Owned(text.to_owned()), Cow::Borrowed)
    }
}

impl<'de, T: OfText> DeserializeSeed<'de> for Text<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T: OfText> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        Ok(T::of(text))
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<T, E> {
        let text = std::str::from_utf8(bytes);
        let bad = |_| E::invalid_value(Unexpected::Bytes(bytes), &self);
        text.map(T::of).map_err(bad)
    }
}

fn read_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    Text(PhantomData).deserialize(deserializer)
}

fn read_link<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'static, str>, D::Error> {
    Text(PhantomData).deserialize(deserializer)
}

type Positions = BTreeMap<Arc<str>, PositionBody>;

struct PositionsVisitor;

impl<'de> Visitor<'de> for PositionsVisitor {
    type Value = Positions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of positions")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Positions, A::Error> {
        let mut all = Vec::with_capacity(map.size_hint().unwrap_or(0).min(MAX_RESERVE));
        while let Some(name) = map.next_key_seed(Text(PhantomData))? {
            all.push((name, map.next_value()?));
        }
        // They come sorted: this looks at each once.
        Ok(all.into_iter().collect())
    }
}

fn read_positions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Positions, D::Error> {
    deserializer.deserialize_map(PositionsVisitor)
}

// === impl Rank ===

impl Serialize for Rank {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Rank {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| {
            serde::de::Error::invalid_value(serde::de::Unexpected::Str(&text), &"a rank")
        })
    }
}

// === impl AnswerBody ===

impl From<Answer> for AnswerBody {
    fn from(answer: Answer) -> Self {
        let mut body = Self {
            unavailable: answer.unavailable,
            ..Self::default()
        };
        let instances: HashMap<u32, &Arc<str>> = answer
            .positions
            .iter()
            .map(|p| (p.source.0, &p.instance))
            .collect();
        for row in &answer.rows {
            // The host names every source of the model; a number that it does
            // not name is shown rather than left out.
            let instance = match instances.get(&row.source) {
                Some(instance) => Arc::clone(instance),
                None => format!("#{}", row.source).into(),
            };
            let rank = Rank(row.rank);
            let raise = |to: &mut u32, value: u32| *to = value.max(*to);
            let scores = body.scores.entry(Arc::clone(&instance)).or_default();
            raise(scores.entry(rank).or_default(), row.tokens);
            let held = body.instances.entry(instance).or_default();
            raise(&mut held.longest_matched, row.tokens);
            raise(&mut held.gpu, row.gpu);
            raise(&mut held.cpu, row.cpu);
            raise(&mut held.disk, row.disk);
            raise(&mut held.other, row.other);
            raise(held.dp.entry(rank).or_default(), row.tokens);
            raise(held.blocks.entry(rank).or_default(), row.blocks);
        }
        let position = |p: SourcePosition| {
            let position = PositionBody {
                instance: p.instance,
                epoch: p.position.map(|at| at.epoch.0),
                sequence: p.position.map(|at| at.sequence),
                complete: p.complete,
                verified: p.verified,
                link: Cow::Borrowed(link_name(p.link)),
            };
            (p.name, position)
        };
        body.positions = answer.positions.into_iter().map(position).collect();
        body
    }
}

/// The name of a link's state in JSON.
fn link_name(link: Link) -> &'static str {
    match link {
        Link::Connecting => "connecting",
        Link::Live => "live",
        Link::Down => "down",
        Link::Stale => "stale",
        Link::Left => "left",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_event::{Epoch, Position, Row, SourceId};

    fn position(id: u32, name: &str, instance: &str) -> SourcePosition {
        SourcePosition {
            source: SourceId(id),
            name: name.into(),
            instance: instance.into(),
            position: (id != 3).then_some(Position {
                epoch: Epoch(1),
                sequence: 40 + u64::from(id),
            }),
            complete: id != 2,
            verified: true,
            link: Link::Live,
        }
    }

    #[test]
    fn ranks_of_an_instance_come_together() {
        let row = |source, rank, tokens, gpu, cpu| Row {
            source,
            rank,
            blocks: tokens / 16,
            tokens,
            gpu,
            cpu,
            ..Row::default()
        };
        let body = AnswerBody::from(Answer {
            rows: vec![
                row(1, 0, 64, 64, 0),
                row(2, 1, 48, 16, 48),
                row(9, 0, 16, 0, 0),
            ],
            positions: vec![
                position(1, "a/dp0", "a"),
                position(2, "a/dp1", "a"),
                position(3, "b", "b"),
            ],
            unavailable: vec!["c".into()],
        });
        let json = serde_json::to_value(&body).unwrap();
        assert_eq!(
            json["scores"],
            serde_json::json!({"a": {"0": 64, "1": 48}, "#9": {"0": 16}})
        );
        assert_eq!(
            json["instances"]["a"],
            serde_json::json!({"longest_matched": 64, "gpu": 64, "cpu": 48, "disk": 0,
                "other": 0, "dp": {"0": 64, "1": 48}, "blocks": {"0": 4, "1": 3}})
        );
        assert_eq!(json["frequencies"], serde_json::json!([]));
        assert_eq!(
            json["positions"]["a/dp1"],
            serde_json::json!({"instance": "a", "epoch": 1, "sequence": 42,
                "complete": false, "verified": true, "link": "live"})
        );
        assert_eq!(json["positions"]["b"]["sequence"], serde_json::Value::Null);
        assert_eq!(json["unavailable"], serde_json::json!(["c"]));

        let text = json.to_string();
        assert_eq!(serde_json::from_str::<AnswerBody>(&text).unwrap(), body);
        let packed = rmp_serde::to_vec_named(&body).unwrap();
        assert_eq!(rmp_serde::from_slice::<AnswerBody>(&packed).unwrap(), body);
    }

    #[test]
    fn link_names_are_those_of_serde() {
        for link in LINKS {
            assert_eq!(serde_json::to_value(link).unwrap(), link_name(link));
            let read = <Cow<'static, str>>::of(link_name(link));
            assert!(matches!(read, Cow::Borrowed(name) if name == link_name(link)));
        }
        assert_eq!(
            <Cow<'static, str>>::of("of a later version"),
            "of a later version"
        );
    }
}
