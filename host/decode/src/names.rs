//! Names to dictionary codes and to their share of the token seed.
//!
//! Events of one batch repeat few names, so the last ones of each kind are kept
//! for the batch: a repeated name costs one comparison, neither a lock nor a hash.

use crate::reader::Int;
use crate::{DecodeError, Field};
use penstock_event::{Dictionary, NameKind, token_seed};
use std::io::Write;

/// The longest name, in bytes: dictionaries live as long as their source.
pub(crate) const MAX_NAME: usize = 1_024;

/// Names of each kind that are kept.
const KEPT: usize = 4;

/// A name, resolved.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Name {
    /// Its code in the dictionary; 0 without a name.
    pub code: u32,
    /// What it adds to the seed of token hashes.
    pub seed: u64,
}

/// An event's adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Adapter<'p> {
    #[default]
    None,
    /// By name.
    Name(&'p [u8]),
    /// By number; the name is the number in decimal.
    Id(Int),
}

/// A name as sent and what it resolved to.
type Kept<'p> = Option<(&'p [u8], Name)>;

/// Names seen in this batch.
pub(crate) struct Names<'p, 'd> {
    dictionary: &'d Dictionary,
    /// By [`NameKind`].
    kept: [[Kept<'p>; KEPT]; 4],
    next: usize,
    numbered: Option<(Int, Name)>,
}

// === impl Adapter ===

impl Adapter<'_> {
    /// True for the string that names this adapter.
    pub(crate) fn is_named(&self, text: &[u8]) -> bool {
        match self {
            Self::None => false,
            Self::Name(name) => *name == text,
            Self::Id(id) => Decimal::new(*id).bytes() == text,
        }
    }
}

// === impl Names ===

impl<'p, 'd> Names<'p, 'd> {
    pub(crate) fn new(dictionary: &'d Dictionary) -> Self {
        Self {
            dictionary,
            kept: [[None; KEPT]; 4],
            next: 0,
            numbered: None,
        }
    }

    /// The name's code and seed; an empty name is none. `at` is for the error,
    /// when the name is too long or not UTF-8.
    pub(crate) fn get(
        &mut self,
        kind: NameKind,
        text: &'p [u8],
        field: Field,
        at: usize,
    ) -> Result<Name, DecodeError> {
        if text.is_empty() {
            return Ok(Name::default());
        }
        let kept = &mut self.kept[kind as usize];
        if let Some((_, name)) = kept.iter().flatten().find(|(known, _)| *known == text) {
            return Ok(*name);
        }
        let Some(utf8) = std::str::from_utf8(text)
            .ok()
            .filter(|text| text.len() <= MAX_NAME)
        else {
            return Err(DecodeError::Bad { field, at });
        };
        let name = resolve(self.dictionary, kind, utf8);
        kept[self.next % KEPT] = Some((text, name));
        self.next = self.next.wrapping_add(1);
        Ok(name)
    }

    /// As [`Names::get`], for an adapter.
    pub(crate) fn adapter(&mut self, adapter: Adapter<'p>, at: usize) -> Result<Name, DecodeError> {
        match adapter {
            Adapter::None => Ok(Name::default()),
            Adapter::Name(text) => self.get(NameKind::Adapter, text, Field::Adapter, at),
            Adapter::Id(id) => {
                if let Some((_, name)) = self.numbered.filter(|(known, _)| *known == id) {
                    return Ok(name);
                }
                let name = resolve(self.dictionary, NameKind::Adapter, Decimal::new(id).text());
                self.numbered = Some((id, name));
                Ok(name)
            }
        }
    }

    /// The code of a medium that was sent as a number.
    pub(crate) fn numbered_medium(&self, id: Int) -> u32 {
        resolve(self.dictionary, NameKind::Medium, Decimal::new(id).text()).code
    }
}

fn resolve(dictionary: &Dictionary, kind: NameKind, text: &str) -> Name {
    let none = token_seed(None, None);
    let seed = match kind {
        NameKind::Adapter => token_seed(Some(text), None).wrapping_sub(none),
        NameKind::Salt => token_seed(None, Some(text)).wrapping_sub(none),
        NameKind::Model | NameKind::Medium => 0,
    };
    Name {
        code: dictionary.code(kind, text),
        seed,
    }
}

/// A number in decimal, without an allocation.
struct Decimal {
    digits: [u8; 24],
    len: usize,
}

impl Decimal {
    fn new(id: Int) -> Self {
        let mut digits = [0; 24];
        let mut left: &mut [u8] = &mut digits;
        // 20 digits and a sign at most: the write cannot fail.
        let written = match id {
            Int::Pos(v) => write!(left, "{v}"),
            Int::Neg(v) => write!(left, "{v}"),
        };
        debug_assert!(written.is_ok());
        let len = 24 - left.len();
        Self { digits, len }
    }

    fn bytes(&self) -> &[u8] {
        &self.digits[..self.len]
    }

    fn text(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }
}
