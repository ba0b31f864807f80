//! `wasi:random`: hash maps want seeds. Pseudo-random, not for secrets.
//!
//! The seed of hash maps is the same in all instances of a plugin, and unknown outside:
//! state that holds hashes can then be moved between any of them, and no engine chooses
//! where its hashes fall.

use crate::bindings::wasi::wasi::random::{insecure, insecure_seed, random};
use crate::ctx::{Ctx, Ended};
use rand::Rng;
use wasmtime::Result;

/// Most bytes of one call.
const MAX_BYTES: u64 = 65_536;

impl Ctx {
    fn random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        if len > MAX_BYTES {
            return Err(Ended::Inert(format!("random numbers, {len} bytes at once")).into());
        }
        let mut bytes = vec![0; len as usize];
        self.rng.fill_bytes(&mut bytes);
        Ok(bytes)
    }
}

impl random::Host for Ctx {
    fn get_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_random_u64(&mut self) -> Result<u64> {
        Ok(self.rng.next_u64())
    }
}

impl insecure::Host for Ctx {
    fn get_insecure_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> Result<u64> {
        Ok(self.rng.next_u64())
    }
}

impl insecure_seed::Host for Ctx {
    fn insecure_seed(&mut self) -> Result<(u64, u64)> {
        Ok(self.hash_seed)
    }
}
