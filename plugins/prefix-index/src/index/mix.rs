//! Mixing: table keys and chain hashes.

/// MurmurHash3's finaliser: a bijection on 64 bits in which every input bit
/// moves every output bit.
#[inline]
pub(super) fn mix64(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// The chain hash of a block under `parent`'s: for one parent a bijection of
/// the token hash.
#[inline]
pub(super) fn chain(parent: u64, token_hash: u64) -> u64 {
    mix64(parent.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ token_hash)
}

/// The chain hash of a block with extra keys. No plain query computes it, nor
/// that of any block below it.
#[inline]
pub(super) fn chain_with_extra(parent: u64, token_hash: u64, digest: u64) -> u64 {
    chain(chain(parent, token_hash) ^ 0xa5a5_5a5a_c3c3_3c3c, digest)
}

/// What goes into the node keys of a lot.
#[inline]
pub(super) fn salt(seed: u64, lot: u16) -> u64 {
    mix64(seed ^ u64::from(lot))
}

/// The key of a block in the table of nodes.
#[inline]
pub(super) fn node_key(salt: u64, hash: u64) -> u64 {
    mix64(salt ^ hash)
}

/// The block's hash in a key: [`node_key`] undone.
pub(super) fn hash_of(salt: u64, key: u64) -> u64 {
    // Each step of the finaliser undone, last first; a shift by more than half is
    // its own inverse.
    let mut x = key ^ (key >> 33);
    x = x.wrapping_mul(0x9cb4_b2f8_1293_37db);
    x ^= x >> 33;
    x = x.wrapping_mul(0x4f74_430c_22a5_4005);
    (x ^ (x >> 33)) ^ salt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_its_hash_back() {
        let mut hash = 1;
        for salt in [0, 7, u64::MAX] {
            for _ in 0..1_000 {
                hash = mix64(hash + 1);
                assert_eq!(hash_of(salt, node_key(salt, hash)), hash);
            }
        }
    }
}
