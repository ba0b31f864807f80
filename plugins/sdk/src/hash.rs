//! Token hashes as the host and the routers of the field compute them.
//!
//! A block's token hash is XXH3-64 of its tokens as little-endian `u32`, under
//! a seed that the adapter and the cache salt go into. Two prompts with the
//! same tokens and different adapters therefore share no hash.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The seed for `adapter` and `salt`; empty means none and adds nothing.
///
/// ```
/// use penstock_sdk::hash::token_seed;
/// assert_eq!(token_seed("", ""), 1337);
/// assert_ne!(token_seed("a", ""), token_seed("", "a"));
/// ```
#[must_use]
pub fn token_seed(adapter: &str, salt: &str) -> u64 {
    let part = |name: &str, seed| match name {
        "" => 0,
        name => xxh3_64_with_seed(name.as_bytes(), seed),
    };
    1337u64
        .wrapping_add(part(adapter, 0))
        .wrapping_add(part(salt, 1))
}

/// The hash of one block whose tokens are already little-endian bytes.
#[must_use]
pub fn token_hash_le(bytes: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

/// The hash of one block.
///
/// ```
/// use penstock_sdk::hash::{token_hash, token_seed};
/// assert_ne!(token_hash(&[1, 2], token_seed("", "")), token_hash(&[2, 1], 1337));
/// ```
#[must_use]
pub fn token_hash(tokens: &[u32], seed: u64) -> u64 {
    let bytes: Vec<u8> = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
    token_hash_le(&bytes, seed)
}

/// XXH3-64 of a name, unseeded.
#[must_use]
pub fn name_hash(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}
