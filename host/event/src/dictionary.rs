use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Entries a source's dictionary may hold. More names are [`UNLISTED`].
pub const MAX_ENTRIES: usize = 65_536;

/// The code of names past [`MAX_ENTRIES`]: present, but not told apart.
/// Their token hashes are still exact, since they are made from the name.
pub const UNLISTED: u32 = u32::MAX;

/// What a name in the dictionary names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum NameKind {
    /// An adapter (LoRA).
    Adapter = 0,
    /// A cache salt.
    Salt = 1,
    /// A model.
    Model = 2,
    /// The raw name of an unknown medium.
    Medium = 3,
}

/// One name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it names.
    pub kind: NameKind,
    /// The name.
    pub text: Arc<str>,
}

/// A source's names to codes, from 1. It only grows, so codes stay valid for
/// as long as the source lives, for every plugin and every epoch.
#[derive(Debug, Default)]
pub struct Dictionary {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    codes: [HashMap<Arc<str>, u32>; 4],
    entries: Vec<Entry>,
}

/// The seed of token hashes: 1337 + XXH3(adapter, 0) + XXH3(salt, 1), wrapping;
/// absent parts add nothing. Dynamo's routers compute the same.
#[must_use]
pub fn token_seed(adapter: Option<&str>, salt: Option<&str>) -> u64 {
    let part =
        |name: Option<&str>, seed| name.map_or(0, |name| xxh3_64_with_seed(name.as_bytes(), seed));
    1337u64
        .wrapping_add(part(adapter, 0))
        .wrapping_add(part(salt, 1))
}

// === impl Dictionary ===

impl Dictionary {
    /// The code of `name`, a new one if need be; [`UNLISTED`] once full.
    pub fn code(&self, kind: NameKind, name: &str) -> u32 {
        let read = self.inner.read().unwrap_or_else(|e| e.into_inner());
        if let Some(code) = read.codes[kind as usize].get(name) {
            return *code;
        }
        if read.entries.len() >= MAX_ENTRIES {
            return UNLISTED;
        }
        drop(read);
        let mut write = self.inner.write().unwrap_or_else(|e| e.into_inner());
        if let Some(code) = write.codes[kind as usize].get(name) {
            return *code;
        }
        if write.entries.len() >= MAX_ENTRIES {
            return UNLISTED;
        }
        let text: Arc<str> = name.into();
        write.entries.push(Entry {
            kind,
            text: text.clone(),
        });
        let code = write.entries.len() as u32;
        write.codes[kind as usize].insert(text, code);
        code
    }

    /// Entries so far.
    #[must_use]
    pub fn len(&self) -> u32 {
        let read = self.inner.read().unwrap_or_else(|e| e.into_inner());
        read.entries.len() as u32
    }

    /// True without entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries with codes `from + 1 ..= to`.
    #[must_use]
    pub fn entries(&self, from: u32, to: u32) -> Vec<Entry> {
        let read = self.inner.read().unwrap_or_else(|e| e.into_inner());
        let to = (to as usize).min(read.entries.len());
        let from = (from as usize).min(to);
        read.entries[from..to].to_vec()
    }

    /// The name of a code; none for 0, [`UNLISTED`] and codes not given yet.
    #[must_use]
    pub fn name(&self, code: u32) -> Option<Arc<str>> {
        let read = self.inner.read().unwrap_or_else(|e| e.into_inner());
        let at = (code as usize).checked_sub(1)?;
        read.entries.get(at).map(|e| e.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_stable_and_by_kind() {
        let d = Dictionary::default();
        let a = d.code(NameKind::Adapter, "x");
        assert_eq!(a, 1);
        assert_eq!(d.code(NameKind::Salt, "x"), 2);
        assert_eq!(d.code(NameKind::Adapter, "x"), a);
        assert_eq!(d.name(2).as_deref(), Some("x"));
        assert_eq!(d.entries(1, 2)[0].kind, NameKind::Salt);
        assert_eq!(d.name(0), None);
    }

    #[test]
    fn a_full_dictionary_says_so() {
        let d = Dictionary::default();
        for i in 0..MAX_ENTRIES {
            d.code(NameKind::Salt, &i.to_string());
        }
        assert_eq!(d.code(NameKind::Salt, "one more"), UNLISTED);
        assert_eq!(d.code(NameKind::Salt, "7"), 8);
    }

    #[test]
    fn absent_parts_add_nothing() {
        assert_eq!(token_seed(None, None), 1337);
        assert_ne!(token_seed(Some("a"), None), token_seed(None, Some("a")));
    }
}
