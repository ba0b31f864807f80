//! One lookup put to all shards of a plugin, and their answers made one.
//!
//! Their sources are different ones, so that rows and positions stand side by side. The
//! sources of a shard that has no answer are `unavailable`, while others answer; one that
//! says nothing is waited for until shortly before the asker's deadline.

mod late;

pub use late::Late;

use super::shards::Shards;
use penstock_event::{Answer, Link, LookupError, Query};
use penstock_plugin::Reply as Back;
use penstock_query::Reply;
use penstock_route::Reading;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

type Heard = Result<Answer, LookupError>;

/// A lookup on its way.
pub struct Gather {
    scope: Scope,
    inner: Mutex<Inner>,
}

struct Inner {
    /// What each shard said so far.
    heard: Vec<Option<Heard>>,
    /// None once there is an answer.
    reply: Option<Reply<Answer>>,
}

/// Whose sources an answer is about.
struct Scope {
    readings: Vec<Arc<Reading>>,
    model: String,
}

/// So long before the deadline the answer leaves, at most: it must arrive before it.
const AHEAD: Duration = Duration::from_millis(50);

/// Asks all shards. `reply` is called once; `closed` is what a shard says that ends
/// instead.
pub fn ask(
    shards: &Shards,
    late: &Late,
    query: &Query,
    reply: Reply<Answer>,
    closed: fn() -> Heard,
) {
    let gather = Arc::new(Gather {
        scope: Scope {
            readings: shards.list.iter().map(|s| s.reading.clone()).collect(),
            model: query.model.clone(),
        },
        inner: Mutex::new(Inner {
            heard: vec![None; shards.list.len()],
            reply: Some(reply),
        }),
    });
    let patience = query.deadline - AHEAD.min(query.deadline / 8);
    let ticket = late.watch(Instant::now() + patience, gather.clone());
    for (number, runner) in shards.runners().enumerate() {
        let (gather, late) = (gather.clone(), late.clone());
        let back = move |answer| {
            if gather.hear(number, answer) {
                late.forget(ticket);
            }
        };
        runner.find(query.clone(), Back::new(back, closed));
    }
}

// === impl Gather ===

impl Gather {
    /// A shard has answered. The last one sends the answer of all: true.
    fn hear(&self, number: usize, answer: Heard) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = inner.heard.get_mut(number) {
            *place = Some(answer);
        }
        let last = inner.heard.iter().all(Option::is_some);
        let reply = inner.reply.take_if(|_| last);
        let heard = reply.is_some().then(|| std::mem::take(&mut inner.heard));
        drop(inner);
        self.send(reply, heard.unwrap_or_default());
        last
    }

    /// Those that have not answered are not waited for any longer.
    fn give_up(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = inner.reply.take();
        let heard = inner.heard.clone();
        drop(inner);
        self.send(reply, heard);
    }

    fn send(&self, reply: Option<Reply<Answer>>, heard: Vec<Option<Heard>>) {
        if let Some(reply) = reply {
            let late = || Err(LookupError::Deadline);
            let heard = heard.into_iter().map(|h| h.unwrap_or_else(late));
            reply(merge(heard, |shard| self.scope.names(shard)));
        }
    }
}

/// One answer of all. `names` gives a shard's sources of the model.
fn merge(
    heard: impl IntoIterator<Item = Heard>,
    names: impl Fn(usize) -> Vec<Arc<str>>,
) -> Result<Answer, LookupError> {
    let mut all: Option<Answer> = None;
    let mut models = BTreeSet::new();
    let mut failed = Vec::new();
    for (shard, answer) in heard.into_iter().enumerate() {
        match answer {
            Ok(one) => {
                let all = all.get_or_insert_default();
                all.rows.extend(one.rows);
                all.positions.extend(one.positions);
                all.unavailable.extend(one.unavailable);
            }
            // It has no source of the model: others may.
            Err(LookupError::NoModel(known)) => models.extend(known),
            Err(error) => failed.push((shard, error)),
        }
    }
    let Some(mut all) = all else {
        let first = failed.into_iter().next();
        let none = || LookupError::NoModel(models.into_iter().collect());
        return Err(first.map_or_else(none, |(_, error)| error));
    };
    all.unavailable
        .extend(failed.iter().flat_map(|(shard, _)| names(*shard)));
    all.positions.sort_by_key(|position| position.source);
    all.unavailable.sort();
    all.unavailable.dedup();
    Ok(all)
}

// === impl Scope ===

impl Scope {
    /// Sources of the model that a shard gets.
    fn names(&self, shard: usize) -> Vec<Arc<str>> {
        let Some(reading) = self.readings.get(shard) else {
            return Vec::new();
        };
        let of_shard = reading.sources().into_iter();
        let asked_for = of_shard.filter(|s| s.info.spec.model == self.model);
        let there = asked_for.filter(|s| s.link() != Link::Left);
        there.map(|s| s.info.name.clone()).collect()
    }
}

#[cfg(test)]
pub(in crate::daemon::merge) mod tests {
    use super::*;
    use penstock_event::{Row, SourceId, SourcePosition};

    fn answer(source: u32, unavailable: &[&str]) -> Heard {
        Ok(Answer {
            rows: vec![Row {
                source,
                blocks: 3,
                ..Row::default()
            }],
            positions: vec![SourcePosition {
                source: SourceId(source),
                name: format!("e{source}").into(),
                instance: format!("e{source}").into(),
                position: None,
                complete: true,
                verified: true,
                link: Link::Live,
            }],
            unavailable: unavailable.iter().map(|name| (*name).into()).collect(),
        })
    }

    fn no_model(known: &[&str]) -> Heard {
        let known = known.iter().map(|name| (*name).to_owned());
        Err(LookupError::NoModel(known.collect()))
    }

    fn names(shard: usize) -> Vec<Arc<str>> {
        vec![format!("of-{shard}").into()]
    }

    #[test]
    fn answers_stand_side_by_side_in_the_order_of_sources() {
        let all = merge([answer(5, &["z"]), answer(4, &["a"])], names).unwrap();
        let of: Vec<_> = all.positions.iter().map(|p| p.source.0).collect();
        assert_eq!((of, all.rows.len()), (vec![4, 5], 2));
        assert_eq!(all.unavailable, [Arc::from("a"), Arc::from("z")]);
    }

    #[test]
    fn who_has_no_answer_is_unavailable_while_others_answer() {
        let heard = [
            answer(3, &[]),
            Err(LookupError::Busy),
            no_model(&["m"]),
            Err(LookupError::Deadline),
        ];
        let all = merge(heard, names).unwrap();
        assert_eq!(all.rows.len(), 1);
        assert_eq!(all.unavailable, [Arc::from("of-1"), Arc::from("of-3")]);
    }

    pub fn gather(shards: usize) -> (Gather, std::sync::mpsc::Receiver<Heard>) {
        let (send, heard) = std::sync::mpsc::channel();
        let scope = Scope {
            readings: Vec::new(),
            model: "m".into(),
        };
        let reply: Reply<Answer> = Box::new(move |answer| send.send(answer).unwrap());
        let inner = Mutex::new(Inner {
            heard: vec![None; shards],
            reply: Some(reply),
        });
        (Gather { scope, inner }, heard)
    }

    #[test]
    fn the_last_one_answers_for_all_unless_time_is_over_before() {
        let (all, heard) = gather(2);
        assert!(!all.hear(1, answer(5, &[])));
        assert!(heard.try_recv().is_err(), "one has not answered");
        assert!(all.hear(0, answer(4, &[])));
        assert_eq!(heard.try_recv().unwrap().unwrap().rows.len(), 2);
        all.give_up();

        let (all, heard) = gather(2);
        all.hear(1, answer(5, &[]));
        all.give_up();
        assert_eq!(heard.try_recv().unwrap().unwrap().rows.len(), 1);
        assert!(
            all.hear(0, answer(4, &[])),
            "nobody is told, and it is over"
        );

        let (all, heard) = gather(2);
        all.give_up();
        assert_eq!(heard.try_recv().unwrap(), Err(LookupError::Deadline));
    }

    #[test]
    fn all_must_fail_for_an_error() {
        let failed = || Err(LookupError::Failed("trap".into()));
        let heard = [no_model(&["b"]), no_model(&["a", "b"])];
        let none = LookupError::NoModel(vec!["a".into(), "b".into()]);
        assert_eq!(merge(heard, names), Err(none));
        // The others' sources may well be of the model.
        let heard = [no_model(&["b"]), failed(), Err(LookupError::Busy)];
        assert_eq!(merge(heard, names), failed());
    }
}
