//! Mixing: table keys, chain hashes, and a hasher for small keys.

use std::hash::{BuildHasherDefault, Hasher};

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

/// What goes into the node keys of one worker and group.
#[inline]
pub(super) fn node_salt(seed: u64, worker: u32, group: u32) -> u64 {
    mix64(seed ^ (u64::from(worker) << 32 | u64::from(group)))
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

/// A hasher for a few fixed-width integers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mixer(u64);

/// Builds [`Mixer`]s.
pub(super) type BuildMixer = BuildHasherDefault<Mixer>;

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = chain(self.0, n);
    }
    fn finish(&self) -> u64 {
        self.0
    }
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
