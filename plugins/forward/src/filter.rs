//! Which events pass.

use penstock_sdk::{Event, Kind, Medium, Name};

/// A filter by model, medium and kind; an empty list lets everything pass.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    models: Vec<String>,
    media: u8,
    kinds: u8,
}

/// A medium as the config names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediumName {
    /// Events that name none.
    None,
    /// Device memory.
    Gpu,
    /// Host memory.
    Cpu,
    /// Local disk.
    Disk,
    /// Another machine's store.
    External,
    /// A name that the host does not know.
    Unknown,
}

/// A kind as the config names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KindName {
    /// Blocks entered.
    Stored,
    /// Blocks left.
    Removed,
    /// All was emptied.
    Cleared,
}

impl MediumName {
    fn medium(self) -> Medium {
        match self {
            Self::None => Medium::None,
            Self::Gpu => Medium::Gpu,
            Self::Cpu => Medium::Cpu,
            Self::Disk => Medium::Disk,
            Self::External => Medium::External,
            Self::Unknown => Medium::Unknown,
        }
    }
}

impl KindName {
    fn kind(self) -> Kind {
        match self {
            Self::Stored => Kind::Stored,
            Self::Removed => Kind::Removed,
            Self::Cleared => Kind::Cleared,
        }
    }
}

impl Filter {
    pub(crate) fn new(models: Vec<String>, media: &[MediumName], kinds: &[KindName]) -> Self {
        let medium = |sum, m: &MediumName| sum | 1 << m.medium().slot();
        let kind = |sum, k: &KindName| sum | 1 << k.kind() as u8;
        Self {
            models,
            media: media.iter().fold(0, medium),
            kinds: kinds.iter().fold(0, kind),
        }
    }

    /// True when everything passes.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.models.is_empty() && self.media == 0 && self.kinds == 0
    }

    /// Whether word that a source is empty passes.
    #[must_use]
    pub fn passes_clears(&self) -> bool {
        self.kinds == 0 || self.kinds >> Kind::Cleared as u8 & 1 != 0
    }

    /// Whether `event` of a source of `model` passes.
    #[must_use]
    pub fn passes(&self, event: &Event<'_>, model: &str) -> bool {
        let kind = event.kind();
        if self.kinds != 0 && self.kinds >> kind as u8 & 1 == 0 {
            return false;
        }
        let common = event.common();
        let medium = common.medium().slot();
        if self.media != 0 && kind != Kind::Cleared && self.media >> medium & 1 == 0 {
            return false;
        }
        if self.models.is_empty() {
            return true;
        }
        let model = match common.model() {
            Name::None => model,
            Name::Known(own) => own,
            // Present but not told apart: it is none of those asked for.
            Name::Unlisted => return false,
        };
        self.models.iter().any(|m| m == model)
    }
}
