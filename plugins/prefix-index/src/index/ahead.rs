//! Reading ahead of a batch's blocks.

/// Blocks looked up ahead together.
pub(super) const AHEAD: usize = 16;

/// Reads words that are soon to be read, in as few instructions as can be, so that the
/// cache misses of all of them overlap. What they are means nothing.
#[inline]
pub(super) fn touch(words: &[&u64]) {
    let seen = words.iter().fold(0, |seen, word| seen ^ **word);
    std::hint::black_box(seen);
}
