//! One event into the columns, or nothing of it.

use crate::extra::ExtraKeys;
use crate::fields::{Fields, Lists, RawMedium};
use crate::media::medium;
use crate::names::Names;
use crate::reader::Reader;
use crate::tokens::Layout;
use crate::{DecodeError, Field, Limits};
use penstock_event::{ColumnSet, Columns, EventRow, Kind, Medium, NameKind, flags};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Memory that lasts from batch to batch.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Tokens of one event, when nobody wants the column.
    tokens: Vec<u32>,
    /// One block's tokens as bytes.
    block: Vec<u8>,
    /// One block's images.
    images: Vec<u64>,
}

/// The columns of the batch that is being decoded.
pub(crate) struct Sink<'a, 'p, 'd> {
    pub out: &'a mut Columns,
    pub scratch: &'a mut Scratch,
    pub names: Names<'p, 'd>,
    pub want: ColumnSet,
    pub limits: Limits,
    /// Tokens read so far, stored or not.
    pub tokens: usize,
    /// The time of the first event that has one.
    pub first_time: Option<i64>,
}

/// Lengths of the columns before an event.
struct Mark {
    hashes: usize,
    token_hashes: usize,
    extra_digests: usize,
    tokens: usize,
    whole_hashes: usize,
    whole_hash_ends: usize,
}

// === impl Scratch ===

impl Scratch {
    /// Gives back what a giant batch left behind.
    pub(crate) fn trim(&mut self) {
        const KEEP: usize = 64 * 1024;
        self.tokens.clear();
        self.tokens.shrink_to(KEEP);
        self.block.clear();
        self.block.shrink_to(KEEP);
        self.images.clear();
        self.images.shrink_to(KEEP);
    }
}

// === impl Sink ===

impl<'p> Sink<'_, 'p, '_> {
    /// Decodes the event at the reader. On an error the columns are as before,
    /// and the reader stands somewhere within the event.
    pub(crate) fn event(&mut self, r: &mut Reader<'p>) -> Result<(), DecodeError> {
        let mark = self.mark();
        let payload = *r;
        let mut fields = Fields::default();
        let done = self
            .read(r, &mut fields, &mark)
            .and_then(|()| self.finish(payload, &fields, &mark));
        if done.is_err() {
            self.undo(&mark);
        }
        done
    }

    fn wants(&self, column: ColumnSet) -> bool {
        self.want.contains(column)
    }

    fn mark(&mut self) -> Mark {
        self.scratch.tokens.clear();
        Mark {
            hashes: self.out.hashes.len(),
            token_hashes: self.out.token_hashes.len(),
            extra_digests: self.out.extra_digests.len(),
            tokens: self.out.tokens.len(),
            whole_hashes: self.out.whole_hashes.len(),
            whole_hash_ends: self.out.whole_hash_ends.len(),
        }
    }

    fn undo(&mut self, mark: &Mark) {
        self.out.hashes.truncate(mark.hashes);
        self.out.token_hashes.truncate(mark.token_hashes);
        self.out.extra_digests.truncate(mark.extra_digests);
        self.out.tokens.truncate(mark.tokens);
        self.out.whole_hashes.truncate(mark.whole_hashes);
        self.out.whole_hash_ends.truncate(mark.whole_hash_ends);
    }

    fn read(
        &mut self,
        r: &mut Reader<'p>,
        fields: &mut Fields<'p>,
        mark: &Mark,
    ) -> Result<(), DecodeError> {
        let whole = self.wants(ColumnSet::WHOLE_HASHES);
        let stored = self.wants(ColumnSet::TOKENS);
        let out = &mut *self.out;
        let mut lists = Lists {
            hashes: &mut out.hashes,
            whole: whole.then_some((&mut out.whole_hashes, &mut out.whole_hash_ends)),
            tokens: if stored {
                &mut out.tokens
            } else {
                &mut self.scratch.tokens
            },
            start: [
                mark.hashes,
                mark.whole_hashes,
                mark.whole_hash_ends,
                if stored { mark.tokens } else { 0 },
            ],
            blocks_left: (self.limits.max_blocks as usize).saturating_sub(mark.hashes),
            tokens_left: (self.limits.max_tokens as usize).saturating_sub(self.tokens),
        };
        fields.read(r, &mut lists, self.limits.max_depth as usize)?;
        self.tokens += lists.tokens.len() - lists.start[3];
        Ok(())
    }

    fn finish(
        &mut self,
        payload: Reader<'p>,
        fields: &Fields<'p>,
        mark: &Mark,
    ) -> Result<(), DecodeError> {
        let at = payload.at();
        let kind = fields.kind.ok_or(DecodeError::Missing {
            field: Field::Tag,
            at,
        })?;
        let mut row = EventRow {
            kind,
            medium: Medium::None,
            flags: 0,
            group: 0,
            block_size: 0,
            adapter: 0,
            salt: 0,
            model: 0,
            medium_name: 0,
            block_end: 0,
        };
        match kind {
            Kind::Cleared => self.undo(mark),
            Kind::Stored | Kind::Removed if !fields.hashes => {
                let field = Field::Hashes;
                return Err(DecodeError::Missing { field, at });
            }
            Kind::Removed => {
                self.out.tokens.truncate(mark.tokens);
                self.pad();
            }
            Kind::Stored => self.stored(payload, fields, mark, &mut row)?,
        }
        if kind != Kind::Cleared {
            self.medium(fields, &mut row)?;
            if let Some(group) = fields.group {
                row.group = group;
                row.flags |= flags::GROUP;
            }
            if fields.remote {
                row.flags |= flags::REMOTE;
            }
        }
        if let Some((text, at)) = fields.model {
            row.model = self
                .names
                .get(NameKind::Model, text, Field::Model, at)?
                .code;
        }
        if fields.time.is_some() {
            self.first_time = self.first_time.or(fields.time);
            row.flags |= flags::TIME;
        }
        let parent = fields.parent.filter(|_| kind == Kind::Stored);
        if parent.is_some() {
            row.flags |= flags::PARENT;
        }
        row.block_end = self.out.hashes.len() as u32;
        self.out.events.extend_from_slice(&row.to_words());
        self.out.parents.push(parent.unwrap_or(0));
        if self.wants(ColumnSet::TIMES) {
            self.out.times.push(fields.time.unwrap_or(0));
        }
        if self.wants(ColumnSet::TOKENS) {
            self.out.token_ends.push(self.out.tokens.len() as u32);
        }
        Ok(())
    }

    /// Zeros in the columns of blocks that have none of their own.
    fn pad(&mut self) {
        let blocks = self.out.hashes.len();
        if self.wants(ColumnSet::TOKEN_HASHES) {
            self.out.token_hashes.resize(blocks, 0);
        }
        if self.wants(ColumnSet::EXTRA_DIGESTS) {
            self.out.extra_digests.resize(blocks, 0);
        }
    }

    fn medium(&mut self, fields: &Fields<'p>, row: &mut EventRow) -> Result<(), DecodeError> {
        match fields.medium {
            None => {}
            Some(RawMedium::Number(number)) => {
                row.medium = Medium::Unknown;
                row.medium_name = self.names.numbered_medium(number);
            }
            Some(RawMedium::Name((text, at))) => {
                row.medium = medium(text);
                if row.medium == Medium::Unknown {
                    let name = self.names.get(NameKind::Medium, text, Field::Medium, at)?;
                    row.medium_name = name.code;
                }
            }
        }
        Ok(())
    }

    fn stored(
        &mut self,
        payload: Reader<'p>,
        fields: &Fields<'p>,
        mark: &Mark,
        row: &mut EventRow,
    ) -> Result<(), DecodeError> {
        let at = payload.at();
        let blocks = self.out.hashes.len() - mark.hashes;
        let stored = self.wants(ColumnSet::TOKENS);
        let (tokens, start) = if stored {
            (&mut self.out.tokens, mark.tokens)
        } else {
            (&mut self.scratch.tokens, 0)
        };
        let layout = fields
            .tokens
            .resolve(tokens, start, blocks, fields.block_size, at)?;
        row.block_size = layout.block_size;
        if layout.bigram {
            row.flags |= flags::BIGRAM;
        }
        if layout.fits {
            row.flags |= flags::TOKEN_HASHES;
        }
        let name_at = fields.lora_name.map_or(at, |(_, at)| at);
        let adapter = self.names.adapter(fields.adapter(), name_at)?;
        row.adapter = adapter.code;
        let mut seed = penstock_event::token_seed(None, None).wrapping_add(adapter.seed);
        if let Some((text, at)) = fields.salt {
            let salt = self.names.get(NameKind::Salt, text, Field::Salt, at)?;
            row.salt = salt.code;
            seed = seed.wrapping_add(salt.seed);
        }
        match ExtraKeys::new(payload, fields, blocks)? {
            Some(extra) => self.blocks_with_extras(extra, layout, seed, mark, row)?,
            None if layout.fits && self.wants(ColumnSet::TOKEN_HASHES) => {
                self.plain_blocks(layout, seed, mark);
            }
            None => {}
        }
        self.pad();
        Ok(())
    }

    /// Token hashes of blocks without extra keys.
    fn plain_blocks(&mut self, layout: Layout, seed: u64, mark: &Mark) {
        let tokens = if self.wants(ColumnSet::TOKENS) {
            self.out.tokens.get(mark.tokens..).unwrap_or(&[])
        } else {
            &self.scratch.tokens
        };
        let windows = tokens.chunks_exact(layout.width());
        let hashes = windows.map(|tokens| {
            // As they stand in memory, where that is how they are hashed.
            if cfg!(target_endian = "little") {
                return xxh3_64_with_seed(bytemuck::cast_slice(tokens), seed);
            }
            to_bytes(tokens, &mut self.scratch.block);
            xxh3_64_with_seed(&self.scratch.block, seed)
        });
        self.out.token_hashes.extend(hashes);
    }

    /// Digests and token hashes of blocks of which some have extra keys.
    fn blocks_with_extras(
        &mut self,
        mut extra: ExtraKeys<'p, '_>,
        layout: Layout,
        seed: u64,
        mark: &Mark,
        row: &mut EventRow,
    ) -> Result<(), DecodeError> {
        let hashed = layout.fits && self.wants(ColumnSet::TOKEN_HASHES);
        let digests = self.wants(ColumnSet::EXTRA_DIGESTS);
        let tokens = if self.wants(ColumnSet::TOKENS) {
            self.out.tokens.get(mark.tokens..).unwrap_or(&[])
        } else {
            &self.scratch.tokens
        };
        let mut windows = tokens.chunks_exact(layout.width());
        for _ in mark.hashes..self.out.hashes.len() {
            let digest = extra.next(&mut self.scratch.images)?;
            if digest != 0 {
                row.flags |= flags::EXTRA_KEYS;
            }
            if digests {
                self.out.extra_digests.push(digest);
            }
            if hashed && let Some(tokens) = windows.next() {
                let block = &mut self.scratch.block;
                to_bytes(tokens, block);
                for image in &self.scratch.images {
                    block.extend_from_slice(&image.to_le_bytes());
                }
                self.out.token_hashes.push(xxh3_64_with_seed(block, seed));
            }
        }
        Ok(())
    }
}

// === impl Layout ===

impl Layout {
    /// Tokens that make one block's hash; at least 1.
    fn width(self) -> usize {
        (self.block_size as usize)
            .saturating_add(usize::from(self.bigram))
            .max(1)
    }
}

/// Tokens as little-endian bytes.
fn to_bytes(tokens: &[u32], bytes: &mut Vec<u8>) {
    bytes.resize(tokens.len() * 4, 0);
    for (to, token) in bytes.chunks_exact_mut(4).zip(tokens) {
        to.copy_from_slice(&token.to_le_bytes());
    }
}
