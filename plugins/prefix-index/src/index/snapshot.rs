//! State that outlives an instance: the blocks of one source, cut into pieces.
//!
//! A piece stands for itself (little endian):
//!
//! ```text
//! "pxst" | seed u64 | workers u16, each: rank u32, root u64
//!                   | sizes u16, each: worker u16, tokens u32, bigram u8
//!                   | blocks u32, each a row
//! row:   hash u64 | chain u64 | group u32 | block size u32 | worker u16 | flags u8
//!        schema 1: a count u16 for each of the six media
//!        schema 2: media u8, a bit each, and a count u16 for each bit that is set
//! flags: 1 the chain is known | 2 used lately | 4 some child has another block size
//! ```
//!
//! Chain hashes begin with the seed of the index that made them, so an empty index
//! takes the seed over, and one that holds blocks takes only its own.
//!
//! Not carried over: when a prefix was last asked for, and the order of use.

use super::AHEAD;
use super::node::{Block, MEDIA, Node};
use super::slab::NONE;
use super::table::Added;
use super::worker::{Key, Size};
use super::{Index, mix};
use std::hint::black_box;

/// The schema that is written.
#[cfg(not(feature = "schema-1"))]
pub const SCHEMA: u32 = 2;
/// The schema that is written.
#[cfg(feature = "schema-1")]
pub const SCHEMA: u32 = 1;

/// Slots looked at for one piece: a bound on the time of a call.
const SLOTS: u32 = 1 << 19;

/// Bytes that all rows begin with.
const FIXED: usize = 8 + 8 + 4 + 4 + 2 + 1;
/// Bytes of the longest row.
const ROW: usize = FIXED + 1 + 2 * MEDIA;

/// Bytes that are reserved for a piece at most.
const MOST: usize = 1 << 20;

const MAGIC: &[u8; 4] = b"pxst";

/// Instead of a worker's number in the head, plus 1: the lot is another source's.
const OTHER: u16 = 0;

/// Nodes that are looked at together.
const TOGETHER: usize = 8;

const CHAINED: u8 = 1;
const USED: u8 = 2;
const ODD_CHILD: u8 = 4;

/// Reads a piece from the front.
struct Bytes<'a>(&'a [u8]);

struct Row {
    hash: u64,
    chain: u64,
    group: u32,
    block_size: u32,
    worker: u16,
    flags: u8,
    counts: [u16; MEDIA],
}

// === impl Index ===

impl Index {
    /// The blocks of `source` from `cursor` on, in at most `max_bytes`, and where the
    /// next piece begins.
    ///
    /// # Errors
    /// `max_bytes` is too small for anything, or the source has too many workers.
    pub fn snapshot(
        &self,
        source: u32,
        cursor: u64,
        max_bytes: usize,
    ) -> Result<(Vec<u8>, Option<u64>), String> {
        self.snapshot_as(SCHEMA, source, cursor, max_bytes)
    }

    /// The same in either schema.
    pub(super) fn snapshot_as(
        &self,
        schema: u32,
        source: u32,
        cursor: u64,
        max_bytes: usize,
    ) -> Result<(Vec<u8>, Option<u64>), String> {
        let workers: Vec<u32> = self.workers.of_source(source).collect();
        let mut out = self.head(&workers)?;
        out.reserve(max_bytes.min(MOST).saturating_sub(out.len()));
        let count_at = out.len();
        out.extend([0; 4]);
        if out.len() + ROW > max_bytes {
            return Err(format!("{max_bytes} bytes hold no block"));
        }
        let end = self.nodes.high_water();
        let first = u32::try_from(cursor).unwrap_or(end).min(end);
        let last = first.saturating_add(SLOTS).min(end);
        // The worker of each lot, as the head counts them, but from 1.
        let mut lots = vec![OTHER; self.lots.numbers()];
        for (worker, i) in workers.iter().zip(1u16..) {
            for lot in &self.workers.get(*worker).lots {
                lots[usize::from(*lot)] = i;
            }
        }
        let (mut rows, mut at) = (0u32, first);
        'rows: while at < last {
            let mut own = [0; AHEAD];
            let (found, looked) = pick(self.nodes.run(at, last), &lots, &mut own);
            let own = own.iter().take(found).map(|offset| at + u32::from(*offset));
            let seen = own.clone().fold(0, |seen, node| {
                let chain = self.chains.seen(self.nodes.get(node).chain());
                seen ^ chain.map_or(0, |chain| chain.hash)
            });
            black_box(seen);
            for node in own {
                if out.len() + ROW > max_bytes {
                    at = node;
                    break 'rows;
                }
                let worker = lots[usize::from(self.nodes.get(node).lot())] - 1;
                let row = self.row(node, worker);
                let node = self.nodes.get(node);
                match node.references().filter(|_| schema == 2) {
                    Some(references) => row.write_plain(node.media(), references, &mut out),
                    None => row.write(schema, &mut out),
                }
                rows += 1;
            }
            at += looked;
        }
        out[count_at..count_at + 4].copy_from_slice(&rows.to_le_bytes());
        Ok((out, (at < end).then_some(u64::from(at))))
    }

    /// Takes a piece of the state of `source`.
    ///
    /// # Errors
    /// It is of another schema or seed, or damaged; what was taken of it stays.
    pub fn restore(&mut self, source: u32, schema: u32, piece: &[u8]) -> Result<(), String> {
        if !matches!(schema, 1 | 2) {
            return Err(format!("schema {schema} is not known; known are 1 and 2"));
        }
        self.read(source, schema, &mut Bytes(piece))
            .unwrap_or_else(|| Err("the piece is damaged".into()))
    }

    fn head(&self, workers: &[u32]) -> Result<Vec<u8>, String> {
        let count = u16::try_from(workers.len()).ok();
        let count = count.filter(|count| *count < u16::MAX);
        let count = count.ok_or("too many workers")?;
        let mut out = Vec::new();
        out.extend(MAGIC);
        out.extend(self.seed.to_le_bytes());
        out.extend(count.to_le_bytes());
        for worker in workers {
            let key = self.workers.get(*worker).key;
            out.extend(key.rank.to_le_bytes());
            out.extend(key.root.to_le_bytes());
        }
        let mut sizes = Vec::new();
        for (i, worker) in (0u16..).zip(workers) {
            let root = self.workers.get(*worker).key.root;
            sizes.extend(self.workers.sizes(root).iter().map(|size| (i, *size)));
        }
        // At most 256 a model.
        sizes.truncate(u16::MAX.into());
        out.extend((sizes.len() as u16).to_le_bytes());
        for (worker, size) in sizes {
            out.extend(worker.to_le_bytes());
            out.extend(size.tokens.to_le_bytes());
            out.push(size.bigram.into());
        }
        Ok(out)
    }

    fn row(&self, at: u32, worker: u16) -> Row {
        let (node, block) = (self.nodes.get(at), self.block(at));
        let lot = self.lots.get(node.lot());
        let mut flags = if node.used() { USED } else { 0 };
        let mut chain = 0;
        if node.chain() != NONE {
            let known = self.chains.get(node.chain());
            chain = known.hash;
            flags |= CHAINED | if known.odd_child() { ODD_CHILD } else { 0 };
        }
        Row {
            hash: mix::hash_of(lot.salt, node.key),
            chain,
            group: lot.group,
            block_size: block.size,
            worker,
            flags,
            counts: block.counts,
        }
    }

    /// None: it ends too early.
    fn read(
        &mut self,
        source: u32,
        schema: u32,
        from: &mut Bytes<'_>,
    ) -> Option<Result<(), String>> {
        if from.take::<4>()? != *MAGIC {
            return None;
        }
        let seed = from.u64()?;
        if self.nodes.len() == 0 {
            self.seed = seed;
            self.lots.reseed(seed);
        } else if self.seed != seed {
            return Some(Err("the piece is of another index".into()));
        }
        let own = self.sources.get(&source).map(|s| s.root);
        let mut workers = Vec::new();
        for _ in 0..from.u16()? {
            let (rank, root) = (from.u32()?, from.u64()?);
            self.several_models |= own.is_some_and(|own| own != root);
            workers.push(Key { source, rank, root });
        }
        let mut sizes = Vec::new();
        for _ in 0..from.u16()? {
            let (worker, tokens) = (from.u16()?, from.u32()?);
            let bigram = from.take::<1>()?[0] != 0;
            sizes.push((worker, Size { tokens, bigram }));
        }
        let (mut left, mut rows) = (from.u32()? as usize, Vec::with_capacity(AHEAD));
        while left > 0 {
            rows.clear();
            for _ in 0..left.min(AHEAD) {
                let row = Row::read(schema, from)?;
                let key = *workers.get(usize::from(row.worker))?;
                if row.counts == [0; MEDIA] {
                    return None;
                }
                rows.push((key, row));
            }
            left -= rows.len();
            self.put_all(&rows);
            self.trim();
        }
        for (worker, size) in sizes {
            if let Some(worker) = self.workers.find(workers.get(usize::from(worker))?) {
                self.workers.note_size(worker, size);
            }
        }
        from.0.is_empty().then_some(Ok(()))
    }

    /// Reads where rows will go before the first is put there.
    fn put_all(&mut self, rows: &[(Key, Row)]) {
        let (mut keys, mut seen) = ([None; AHEAD], 0);
        let mut last: Option<(Key, u32, u16)> = None;
        for ((worker, row), key) in rows.iter().zip(&mut keys) {
            let known = last.filter(|(key, group, _)| key == worker && *group == row.group);
            let lot = match known {
                Some((.., lot)) => Some(lot),
                None => self.lot_or_make(*worker, row.group),
            };
            last = lot.map(|lot| (*worker, row.group, lot));
            *key = lot.map(|lot| (lot, mix::node_key(self.lots.get(lot).salt, row.hash)));
            if let Some((_, key)) = *key {
                seen ^= self.node_table.start(key) ^ self.chain_table.start(row.chain);
            }
        }
        black_box(seen);
        for ((_, row), key) in rows.iter().zip(keys) {
            match key {
                Some((lot, key)) => self.put(lot, key, row),
                None => self.counts.refused += 1,
            }
        }
    }

    fn put(&mut self, lot: u16, key: u64, row: &Row) {
        let at = match self.node_table.find_or_add(key, &mut self.nodes) {
            Added::New(at) => at,
            Added::Known(_) => return,
            Added::Full => {
                self.counts.refused += 1;
                return;
            }
        };
        let block = Block {
            counts: row.counts,
            size: row.block_size,
        };
        let holder = self.holder(lot, block.media());
        let mut node = Node::new(key, lot, self.recency.era()).with_used(row.flags & USED != 0);
        if row.flags & CHAINED != 0
            && let chain = self.add_holder(row.chain, holder, row.block_size)
            && chain != NONE
        {
            node = node.with_chain(chain);
            if row.flags & ODD_CHILD != 0 {
                self.chains.get_mut(chain).set_odd_child();
            }
        }
        // With references of its own from here on.
        *self.nodes.get_mut(at) = node.with_block(0, 0, 1);
        self.set_block(at, &block);
        self.workers.get_mut(holder.worker()).nodes += 1;
        self.recency.stored(1);
    }
}

/// Where among some nodes those are whose lots have a worker, how many, and how many nodes
/// were looked at for them. Most nodes are other sources'.
#[inline(never)]
fn pick(nodes: &[Node], lots: &[u16], own: &mut [u16; AHEAD]) -> (usize, u32) {
    let its = |node: &Node| lots.get(usize::from(node.lot())).copied().unwrap_or(OTHER);
    let (mut found, mut looked) = (0, 0);
    for some in nodes.chunks(TOGETHER) {
        // Those of one event are side by side.
        if let Some(all) = some.as_array::<TOGETHER>()
            && all.iter().fold(OTHER, |any, node| any | its(node)) == OTHER
        {
            looked += TOGETHER as u32;
            continue;
        }
        for node in some {
            if its(node) != OTHER && node.is_held() {
                let Some(place) = own.get_mut(found) else {
                    return (found, looked);
                };
                *place = looked as u16;
                found += 1;
            }
            looked += 1;
        }
    }
    (found, looked)
}

// === impl Row ===

impl Row {
    /// What all rows begin with.
    #[inline]
    fn fixed(&self) -> [u8; ROW] {
        let mut row = [0; ROW];
        row[..8].copy_from_slice(&self.hash.to_le_bytes());
        row[8..16].copy_from_slice(&self.chain.to_le_bytes());
        row[16..20].copy_from_slice(&self.group.to_le_bytes());
        row[20..24].copy_from_slice(&self.block_size.to_le_bytes());
        row[24..26].copy_from_slice(&self.worker.to_le_bytes());
        row[26] = self.flags;
        row
    }

    /// In schema 2, the same count in each of some media: nearly all rows.
    #[inline]
    fn write_plain(&self, media: u8, count: u16, out: &mut Vec<u8>) {
        let mut row = self.fixed();
        row[FIXED] = media;
        let counts = media.count_ones() as usize * 2;
        for two in row[FIXED + 1..][..counts].as_chunks_mut().0 {
            *two = count.to_le_bytes();
        }
        out.extend_from_slice(&row[..FIXED + 1 + counts]);
    }

    fn write(&self, schema: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.fixed()[..FIXED]);
        let sparse = schema == 2;
        if sparse {
            let bit = |(i, count): (usize, &u16)| u8::from(*count > 0) << i;
            out.push(self.counts.iter().enumerate().map(bit).sum());
        }
        for count in self.counts.iter().filter(|count| !sparse || **count > 0) {
            out.extend(count.to_le_bytes());
        }
    }

    fn read(schema: u32, from: &mut Bytes<'_>) -> Option<Self> {
        let mut row = Self {
            hash: from.u64()?,
            chain: from.u64()?,
            group: from.u32()?,
            block_size: from.u32()?,
            worker: from.u16()?,
            flags: from.take::<1>()?[0],
            counts: [0; MEDIA],
        };
        let media = match schema {
            1 => u8::MAX,
            _ => from.take::<1>()?[0],
        };
        for (i, count) in row.counts.iter_mut().enumerate() {
            if media >> i & 1 == 1 {
                *count = from.u16()?;
            }
        }
        Some(row)
    }
}

// === impl Bytes ===

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
