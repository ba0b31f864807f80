//! Batches shaped as those of engines with one full-attention group, with every
//! field that the release imitated writes.
//!
//! An engine works on some conversations at a time, each of which grows by one
//! event in turn. Once its cache is full, a batch begins with one event that
//! removes as many blocks as it is about to store: those of the conversation
//! that ended first, last blocks first. A quarter of the conversations is the
//! same on all engines, another quarter begins with one of a few prompts that
//! stay. What an engine holds at the end is known exactly.

use bytes::Bytes;
use penstock_peer::encode::{Style, encode_batch};
use penstock_peer::event::{Event, Removed, Stored};
use std::collections::VecDeque;
use std::sync::Arc;

/// What an engine's batches look like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Stored events a batch.
    pub events: usize,
    /// Blocks an event.
    pub blocks: usize,
    /// Tokens a block.
    pub tokens: usize,
    /// Blocks that fit into the cache.
    pub capacity: usize,
    /// How the engine writes.
    pub style: Style,
}

/// An engine.
pub struct Engine {
    shape: Shape,
    number: u64,
    batches: u64,
    begun: u64,
    running: VecDeque<Conversation>,
    ended: VecDeque<Conversation>,
    held: usize,
    medium: Option<Arc<str>>,
    kind: Option<Arc<str>>,
}

/// A prompt and its answer, growing. Its blocks are a function of `content`.
#[derive(Clone, Debug)]
pub struct Conversation {
    content: u64,
    /// The prompt it begins with, whose blocks are always held.
    start: Option<u64>,
    /// Blocks it had at most, without those of `start`.
    pub blocks: usize,
    /// Blocks still held, from its beginning.
    pub held: usize,
    /// Blocks at which it ends.
    until: usize,
}

/// Conversations at a time.
const RUNNING: usize = 32;

/// Prompts that stay, and their blocks.
const STARTS: u64 = 8;
const START_BLOCKS: usize = 16;

/// Token numbers are below it.
const VOCABULARY: u64 = 128_000;

/// Contents of the prompts that stay, apart from all others.
const START_CONTENT: u64 = 1 << 60;

fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn hash(content: u64, block: usize) -> u64 {
    mix(content ^ 0x5bd1_e995, block as u64)
}

fn tokens(content: u64, block: usize, many: usize, out: &mut Vec<u32>) {
    let seed = mix(content, block as u64);
    out.extend((0..many as u64).map(|i| (mix(seed, i) % VOCABULARY) as u32));
}

// === impl Engine ===

impl Engine {
    /// Engine `number` of several, with an empty cache.
    pub fn new(number: usize, shape: Shape) -> Self {
        Self {
            shape,
            number: number as u64,
            batches: 0,
            begun: 0,
            running: VecDeque::new(),
            ended: VecDeque::new(),
            held: 0,
            medium: Some("GPU".into()),
            kind: Some("full_attention".into()),
        }
    }

    /// Payloads of the next `many` batches, and the blocks that they store.
    pub fn payloads(&mut self, many: usize) -> (Vec<Bytes>, u64) {
        let mut blocks = 0;
        let payloads = (0..many).map(|_| {
            let events = self.batch();
            blocks += events.iter().map(Event::stored_blocks).sum::<usize>() as u64;
            let ts = 1_700_000_000.0 + self.batches as f64 * 0.01;
            Bytes::from(encode_batch(ts, &events, Some(0), self.shape.style))
        });
        let payloads = payloads.collect();
        (payloads, blocks)
    }

    /// Blocks in the cache.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Every conversation so far of which blocks are left.
    pub fn conversations(&self) -> impl Iterator<Item = &Conversation> {
        self.ended.iter().chain(&self.running)
    }

    fn batch(&mut self) -> Vec<Event> {
        self.batches += 1;
        if self.batches == 1 {
            self.running = (0..RUNNING).map(|_| self.begin()).collect();
            self.held = STARTS as usize * START_BLOCKS;
            return (0..STARTS)
                .map(|start| self.stored(START_CONTENT | start, None, 0..START_BLOCKS))
                .collect();
        }
        let mut events = Vec::with_capacity(self.shape.events + 1);
        let needed = self.held + self.shape.events * self.shape.blocks;
        if let Some(over) = needed
            .checked_sub(self.shape.capacity)
            .filter(|over| *over > 0)
        {
            events.push(self.remove(over));
        }
        for _ in 0..self.shape.events {
            let Some(mut at) = self.running.pop_front() else {
                break;
            };
            let range = at.blocks..at.blocks + self.shape.blocks;
            events.push(self.stored(at.content, at.start, range.clone()));
            (at.blocks, at.held) = (range.end, range.end);
            self.held += range.len();
            if at.blocks < at.until {
                self.running.push_back(at);
            } else {
                self.ended.push_back(at);
                let next = self.begin();
                self.running.push_back(next);
            }
        }
        events
    }

    fn begin(&mut self) -> Conversation {
        let number = self.begun;
        self.begun += 1;
        // Content 0 of engine n is not content 0 of engine m, but for shared ones.
        let own = (self.number + 1) << 40 | number;
        let content = if number.is_multiple_of(4) {
            number
        } else {
            own
        };
        let start = (number % 4 == 1).then_some(START_CONTENT | (mix(content, 1) % STARTS));
        let events = 4 + (mix(content, 2) % 13) as usize;
        Conversation {
            content,
            start,
            blocks: 0,
            held: 0,
            until: events * self.shape.blocks,
        }
    }

    fn stored(&self, content: u64, start: Option<u64>, range: std::ops::Range<usize>) -> Event {
        let mut all = Vec::with_capacity(range.len() * self.shape.tokens);
        for block in range.clone() {
            tokens(content, block, self.shape.tokens, &mut all);
        }
        let parent = match range.start.checked_sub(1) {
            Some(before) => Some(hash(content, before)),
            None => start.map(|start| hash(start, START_BLOCKS - 1)),
        };
        Event::Stored(Stored {
            extra_keys: Some(vec![None; range.len()]),
            hashes: range.map(|block| hash(content, block)).collect(),
            parent,
            tokens: all,
            block_size: self.shape.tokens as u32,
            medium: self.medium.clone(),
            group: Some(0),
            spec_kind: self.kind.clone(),
            ..Stored::default()
        })
    }

    fn remove(&mut self, many: usize) -> Event {
        let mut hashes = Vec::with_capacity(many);
        while hashes.len() < many {
            // Running conversations are never removed: a cache has room for them.
            let Some(oldest) = self.ended.front_mut() else {
                break;
            };
            let take = oldest.held.min(many - hashes.len());
            let left = oldest.held - take;
            hashes.extend(
                (left..oldest.held)
                    .rev()
                    .map(|block| hash(oldest.content, block)),
            );
            oldest.held = left;
            if left == 0 {
                self.ended.pop_front();
            }
        }
        self.held -= hashes.len();
        Event::Removed(Removed {
            hashes,
            medium: self.medium.clone(),
            group: Some(0),
        })
    }
}

// === impl Conversation ===

impl Conversation {
    /// Its tokens from the very beginning.
    pub fn tokens(&self, shape: Shape) -> Vec<u32> {
        let mut all = Vec::new();
        self.each(|content, block| tokens(content, block, shape.tokens, &mut all));
        all
    }

    /// Its engine hashes from the very beginning.
    pub fn hashes(&self) -> Vec<u64> {
        let mut all = Vec::new();
        self.each(|content, block| all.push(hash(content, block)));
        all
    }

    /// Blocks of it that its engine holds, from the very beginning.
    pub fn answer(&self) -> u32 {
        let start = self.start.map_or(0, |_| START_BLOCKS);
        (start + self.held) as u32
    }

    fn each(&self, mut block: impl FnMut(u64, usize)) {
        let start = self
            .start
            .into_iter()
            .flat_map(|s| (0..START_BLOCKS).map(move |b| (s, b)));
        let own = (0..self.blocks).map(|b| (self.content, b));
        start
            .chain(own)
            .for_each(|(content, at)| block(content, at));
    }
}

/// The shape of [`Prompt`]s.
pub const SHAPE: Shape = Shape {
    events: 4,
    blocks: 8,
    tokens: 16,
    capacity: usize::MAX,
    style: Style::MAP,
};

/// A prompt of its own, stored in one batch and removed in one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt(pub u64);

/// Contents of these, apart from all others.
const PROMPT_CONTENT: u64 = 1 << 61;

impl Prompt {
    /// Blocks of one.
    pub const BLOCKS: usize = SHAPE.events * SHAPE.blocks;

    fn content(self) -> u64 {
        PROMPT_CONTENT | self.0
    }

    /// The batch that stores it, and removes another one first.
    pub fn payload(self, removes: Option<Self>) -> Bytes {
        let medium: Option<Arc<str>> = Some("GPU".into());
        let removed = removes.map(|prompt| {
            Event::Removed(Removed {
                hashes: prompt.hashes(),
                medium: medium.clone(),
                group: Some(0),
            })
        });
        let engine = Engine::new(0, SHAPE);
        let stored = (0..SHAPE.events).map(|n| {
            let range = n * SHAPE.blocks..(n + 1) * SHAPE.blocks;
            engine.stored(self.content(), None, range)
        });
        let events: Vec<Event> = removed.into_iter().chain(stored).collect();
        encode_batch(1_700_000_000.0, &events, Some(0), SHAPE.style).into()
    }

    /// Its tokens.
    pub fn tokens(self) -> Vec<u32> {
        let mut all = Vec::new();
        (0..Self::BLOCKS).for_each(|at| tokens(self.content(), at, SHAPE.tokens, &mut all));
        all
    }

    /// Its engine hashes.
    pub fn hashes(self) -> Vec<u64> {
        (0..Self::BLOCKS)
            .map(|at| hash(self.content(), at))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Follows the events with a set and compares it with what the engine says.
    #[test]
    fn an_engine_holds_what_its_events_say() {
        let shape = Shape {
            events: 4,
            blocks: 8,
            tokens: 2,
            capacity: 6_000,
            style: Style::MAP,
        };
        let mut engine = Engine::new(1, shape);
        let mut set = HashSet::new();
        for _ in 0..600 {
            for event in engine.batch() {
                match event {
                    Event::Stored(e) => {
                        assert!(e.parent.is_none_or(|p| set.contains(&p)));
                        assert_eq!(e.tokens.len(), e.hashes.len() * 2);
                        e.hashes.iter().for_each(|h| assert!(set.insert(*h)));
                    }
                    Event::Removed(e) => {
                        e.hashes.iter().for_each(|h| assert!(set.remove(h)));
                    }
                    Event::Cleared => unreachable!("engines never clear"),
                }
            }
            assert!(set.len() <= shape.capacity);
        }
        assert_eq!(set.len(), engine.held());
        assert_eq!(set.len(), shape.capacity);
        for conversation in engine.conversations() {
            let prefix = conversation
                .hashes()
                .iter()
                .take_while(|h| set.contains(*h))
                .count();
            assert_eq!(prefix as u32, conversation.answer());
        }
    }

    #[test]
    fn a_quarter_is_the_same_on_every_engine() {
        let shape = Shape {
            events: 4,
            blocks: 8,
            tokens: 2,
            capacity: usize::MAX,
            style: Style::MAP,
        };
        let hashes = |number| {
            let mut engine = Engine::new(number, shape);
            engine.payloads(100);
            engine
                .conversations()
                .flat_map(Conversation::hashes)
                .collect::<HashSet<_>>()
        };
        let (a, b) = (hashes(0), hashes(1));
        let shared = a.intersection(&b).count();
        assert!(
            shared > a.len() / 8 && shared < a.len() / 2,
            "{shared} of {}",
            a.len()
        );
    }
}
