//! What one call emits: checked as it comes, since a guest may say anything.

use penstock_event::{Columns, Dictionary, EVENT_STRIDE, EventRow, Kind, Medium, NameKind, flags};
use penstock_event::{Emitted, UNLISTED};

/// Called outside of `on-batch`.
pub(crate) const NO_BATCH: u32 = 1;
/// More than may be emitted.
pub(crate) const TOO_MUCH: u32 = 2;
/// No such event, or it was kept before.
pub(crate) const NO_EVENT: u32 = 3;
/// Columns that contradict each other, or name what there is not.
pub(crate) const MISFIT: u32 = 4;

/// What a batch may hold, as the decoder reads it.
const MAX_EVENTS: usize = 65_536;
const MAX_BLOCKS: usize = 1_000_000;
const MAX_TOKENS: usize = 32 << 20;

/// What a call has emitted so far.
#[derive(Debug, Default)]
pub(crate) struct Emission {
    parts: Vec<Emitted>,
    /// By index: whether the event was kept.
    kept: Vec<bool>,
    events: usize,
    blocks: usize,
    tokens: usize,
    bytes: usize,
}

// === impl Emission ===

impl Emission {
    pub(crate) fn clear(&mut self) {
        self.take();
        (self.events, self.blocks, self.tokens, self.bytes) = (0, 0, 0, 0);
    }

    pub(crate) fn take(&mut self) -> Vec<Emitted> {
        self.kept.clear();
        std::mem::take(&mut self.parts)
    }

    /// Events of a batch of `count` pass.
    pub(crate) fn keep(&mut self, events: Vec<u32>, count: u32) -> Result<(), u32> {
        if self.events + events.len() > MAX_EVENTS {
            // As many as there are can be kept at most.
            return Err(if events.len() > count as usize {
                NO_EVENT
            } else {
                TOO_MUCH
            });
        }
        self.kept.resize(count as usize, false);
        for (i, event) in events.iter().enumerate() {
            match self.kept.get_mut(*event as usize) {
                Some(kept) if !*kept => *kept = true,
                _ => {
                    for undone in events.iter().take(i) {
                        if let Some(kept) = self.kept.get_mut(*undone as usize) {
                            *kept = false;
                        }
                    }
                    return Err(NO_EVENT);
                }
            }
        }
        self.events += events.len();
        match self.parts.last_mut() {
            Some(Emitted::Kept(before)) => before.extend(events),
            _ if events.is_empty() => {}
            _ => self.parts.push(Emitted::Kept(events)),
        }
        Ok(())
    }

    /// New events pass, of at most `limit` bytes a call.
    pub(crate) fn send(
        &mut self,
        columns: Columns,
        names: &Dictionary,
        limit: usize,
    ) -> Result<(), u32> {
        let (events, blocks) = (columns.events.len() / EVENT_STRIDE, columns.hashes.len());
        let bytes = self.bytes.saturating_add(columns.bytes());
        let fits = self.events + events <= MAX_EVENTS
            && self.blocks + blocks <= MAX_BLOCKS
            && self.tokens + columns.tokens.len() <= MAX_TOKENS
            && bytes <= limit;
        if !fits {
            return Err(TOO_MUCH);
        }
        check(&columns, names).ok_or(MISFIT)?;
        self.events += events;
        self.blocks += blocks;
        self.tokens += columns.tokens.len();
        self.bytes = bytes;
        if events > 0 {
            self.parts.push(Emitted::Made(Box::new(columns)));
        }
        Ok(())
    }
}

/// None: the columns do not fit together, or name what there is not.
fn check(columns: &Columns, names: &Dictionary) -> Option<()> {
    let (rows, rest) = columns.events.as_chunks::<EVENT_STRIDE>();
    let bare = columns.token_ends.is_empty() && columns.tokens.is_empty();
    let lengths = rest.is_empty()
        && columns.parents.len() == rows.len()
        && (bare || columns.token_ends.len() == rows.len());
    if !lengths {
        return None;
    }
    let (mut blocks, mut tokens) = (0, 0);
    for (i, words) in rows.iter().enumerate() {
        let row = EventRow::from_words(words);
        let of_blocks = (row.block_end as usize).checked_sub(blocks)?;
        let end = columns.token_ends.get(i).map_or(0, |end| *end as usize);
        let of_tokens = end.checked_sub(tokens)?;
        (blocks, tokens) = (row.block_end as usize, end);
        event(words, &row, of_blocks, of_tokens)?;
        let known = [
            (row.adapter, NameKind::Adapter),
            (row.salt, NameKind::Salt),
            (row.model, NameKind::Model),
            (row.medium_name, NameKind::Medium),
        ];
        for (code, kind) in known.into_iter().filter(|(code, _)| *code != 0) {
            let entry = (code != UNLISTED).then(|| names.entries(code - 1, code))?;
            entry.first().filter(|entry| entry.kind == kind)?;
        }
    }
    (blocks == columns.hashes.len() && tokens == columns.tokens.len()).then_some(())
}

/// None: an event that no engine could send.
fn event(words: &[u32; EVENT_STRIDE], row: &EventRow, blocks: usize, tokens: usize) -> Option<()> {
    let medium = (words[0] >> 8) as u8;
    let named = row.medium == Medium::Unknown;
    if (named && (medium != u8::MAX || row.medium_name == 0)) || (!named && row.medium_name != 0) {
        return None;
    }
    match words[0] & 0xff {
        0 => {}
        1 if tokens == 0 => {}
        2 if tokens == 0 && blocks == 0 => {}
        _ => return None,
    }
    let pairs = row.kind == Kind::Stored && row.flags & flags::BIGRAM != 0;
    let window = (row.block_size as usize).checked_add(1)?;
    let whole = !pairs || (row.block_size > 0 && tokens.is_multiple_of(window));
    whole.then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: u32, flags: u32, size: u32, end: u32) -> [u32; 8] {
        [kind | 1 << 8 | flags << 16, 0, size, 0, 0, 0, 0, end]
    }

    fn columns(rows: &[[u32; 8]], hashes: usize) -> Columns {
        Columns {
            events: rows.concat(),
            parents: vec![0; rows.len()],
            hashes: vec![7; hashes],
            ..Columns::default()
        }
    }

    fn send(columns: Columns) -> Result<(), u32> {
        Emission::default().send(columns, &Dictionary::default(), 1 << 20)
    }

    #[test]
    fn an_event_is_kept_once_and_a_refused_call_keeps_nothing() {
        let mut emission = Emission::default();
        assert_eq!(emission.keep(vec![2, 0], 3), Ok(()));
        for bad in [vec![1, 3], vec![1, 2], vec![1, 1], vec![u32::MAX]] {
            assert_eq!(emission.keep(bad, 3), Err(NO_EVENT));
        }
        assert_eq!(emission.keep(vec![0; 70_000], 3), Err(NO_EVENT));
        assert_eq!(emission.keep(vec![1], 3), Ok(()));
        assert_eq!(emission.keep(vec![], 3), Ok(()));
        assert_eq!(emission.take(), [Emitted::Kept(vec![2, 0, 1])]);
        emission.clear();
        assert_eq!(emission.keep(vec![1], 3), Ok(()), "of the next batch");
    }

    #[test]
    fn columns_that_fit_pass() {
        let mut stored = columns(&[row(0, 1, 2, 2), row(1, 0, 0, 3), row(2, 0, 0, 3)], 3);
        stored.tokens = vec![1, 2, 3, 4];
        stored.token_ends = vec![4, 4, 4];
        let mut emission = Emission::default();
        let names = Dictionary::default();
        assert_eq!(emission.send(stored.clone(), &names, 1 << 20), Ok(()));
        assert_eq!(emission.keep(vec![0], 1), Ok(()));
        assert_eq!(emission.send(stored.clone(), &names, 1 << 20), Ok(()));
        let made = Emitted::Made(Box::new(stored));
        assert_eq!(
            emission.take(),
            [made.clone(), Emitted::Kept(vec![0]), made]
        );
        assert_eq!(send(Columns::default()), Ok(()));
    }

    #[test]
    fn columns_that_do_not_fit_are_refused() {
        let good = || columns(&[row(0, 0, 2, 2)], 2);
        assert_eq!(send(good()), Ok(()));
        let spoil: [fn(&mut Columns); 15] = [
            |c| c.events.truncate(7),
            |c| c.parents.clear(),
            |c| c.hashes.truncate(1),
            |c| c.events[7] = 1,
            |c| c.events[7] = u32::MAX,
            |c| c.tokens = vec![1],
            |c| c.token_ends = vec![1],
            |c| (c.tokens, c.token_ends) = (vec![1], vec![1, 1]),
            |c| c.events[0] = 3,
            |c| c.events[0] = 2,
            |c| c.events[0] = 9 << 8,
            |c| c.events[0] = 255 << 8,
            |c| c.events[3] = 1,
            |c| c.events[4] = UNLISTED,
            |c| {
                c.events[0] |= flags::BIGRAM << 16;
                (c.tokens, c.token_ends) = (vec![1; 4], vec![4]);
            },
        ];
        for (i, spoil) in spoil.into_iter().enumerate() {
            let mut columns = good();
            spoil(&mut columns);
            assert_eq!(send(columns), Err(MISFIT), "{i}");
        }
        let back = columns(&[row(0, 0, 2, 2), row(0, 0, 2, 1)], 2);
        assert_eq!(send(back), Err(MISFIT));
    }

    #[test]
    fn names_are_those_of_the_source() {
        let names = Dictionary::default();
        let (lora, odd) = (
            names.code(NameKind::Adapter, "sql"),
            names.code(NameKind::Medium, "TAPE"),
        );
        let send = |columns| Emission::default().send(columns, &names, 1 << 20);
        let mut named = columns(&[row(0, 0, 2, 2)], 2);
        named.events[3] = lora;
        assert_eq!(send(named.clone()), Ok(()));
        named.events[3] = odd;
        assert_eq!(send(named.clone()), Err(MISFIT), "of another kind");
        named.events[3] = 0;
        (named.events[0], named.events[6]) = (255 << 8, odd);
        assert_eq!(send(named), Ok(()));
    }

    #[test]
    fn it_is_bounded() {
        let names = Dictionary::default();
        let mut emission = Emission::default();
        let large = columns(&[row(1, 0, 0, 100)], 100);
        assert_eq!(emission.send(large.clone(), &names, 1_500), Ok(()));
        assert_eq!(emission.send(large, &names, 1_500), Err(TOO_MUCH));
        let many = columns(&vec![row(2, 0, 0, 0); MAX_EVENTS], 0);
        assert_eq!(emission.send(many, &names, usize::MAX), Err(TOO_MUCH));
    }
}
