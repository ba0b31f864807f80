//! Sources: what the host told of them, and the names behind their codes.

use crate::SourceId;
use crate::generated::base::penstock::plugin::types;
use std::collections::BTreeMap;

/// What the host knows of a source: name, instance, rank, model, labels.
pub type SourceInfo = types::SourceInfo;

/// A label of a source.
pub type Label = types::Label;

/// What a dictionary entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// An adapter (LoRA).
    Adapter,
    /// A cache salt.
    Salt,
    /// A model.
    Model,
    /// The raw name of an unknown medium.
    Medium,
    /// A kind this kit does not know.
    Other(u8),
}

/// What stands behind a dictionary code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// The event names none.
    None,
    /// This one.
    Known(&'a str),
    /// One past the end of the dictionary: present, but not told apart.
    Unlisted,
}

/// Something about a source that is not a batch.
#[derive(Clone, Debug)]
pub struct SourceChange<'a> {
    /// Whose.
    pub source: SourceId,
    /// What the host told of it when it joined.
    pub info: Option<&'a SourceInfo>,
    /// Epoch concerned: restarts of the source so far.
    pub epoch: u32,
    /// What happened.
    pub change: Change<'a>,
}

/// What happened to a source.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change<'a> {
    /// It is new to this plugin.
    Joined(&'a SourceInfo),
    /// It is gone for good: forget it.
    Left,
    /// The engine restarted: what it held is gone, `epoch` begins.
    Reset {
        /// 1 sequence went back, 2 content differs, 3 continuity unproven,
        /// 4 announced.
        reason: u32,
    },
    /// Batches that will never come.
    Gap {
        /// First sequence missing.
        first: u64,
        /// Last sequence missing.
        last: u64,
        /// Why: the codes of `source-change.reason` in the interface.
        reason: u32,
    },
    /// New names; [`crate::Batch`] resolves them from now on.
    Names,
}

/// One dictionary code stands for at most this; a host that announces more is
/// broken, and its names read as [`Name::Unlisted`].
const MAX_NAMES: usize = 65_536;

/// All sources this instance was told of. Kept by the kit; a plugin sees it
/// through [`crate::Batch`].
#[derive(Debug, Default)]
pub struct Names {
    sources: BTreeMap<SourceId, Known>,
}

#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) info: Option<SourceInfo>,
    entries: Vec<Option<(NameKind, Box<str>)>>,
}

// === impl Name ===

impl<'a> Name<'a> {
    /// The name, when there is one that is known.
    #[must_use]
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            Self::Known(name) => Some(name),
            Self::None | Self::Unlisted => None,
        }
    }

    /// True when the event names none.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::None
    }
}

// === impl NameKind ===

impl NameKind {
    pub(crate) fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Adapter,
            1 => Self::Salt,
            2 => Self::Model,
            3 => Self::Medium,
            other => Self::Other(other),
        }
    }
}

// === impl Names ===

impl Names {
    /// What the host told of `source`.
    #[must_use]
    pub fn info(&self, source: SourceId) -> Option<&SourceInfo> {
        self.sources.get(&source)?.info.as_ref()
    }

    pub(crate) fn known(&self, source: SourceId) -> Option<&Known> {
        self.sources.get(&source)
    }

    pub(crate) fn join(&mut self, source: SourceId, info: SourceInfo) {
        self.sources.entry(source).or_default().info = Some(info);
    }

    pub(crate) fn leave(&mut self, source: SourceId) {
        self.sources.remove(&source);
    }

    pub(crate) fn add(&mut self, source: SourceId, entries: Vec<types::DictionaryEntry>) {
        let known = self.sources.entry(source).or_default();
        for entry in entries {
            let at = match entry.code.checked_sub(1) {
                Some(at) if (at as usize) < MAX_NAMES => at as usize,
                _ => continue,
            };
            if known.entries.len() <= at {
                known.entries.resize(at + 1, None);
            }
            known.entries[at] =
                Some((NameKind::from_code(entry.kind), entry.text.into_boxed_str()));
        }
    }
}

// === impl Known ===

impl Known {
    pub(crate) fn name(&self, code: u32) -> Name<'_> {
        let Some(at) = code.checked_sub(1) else {
            return Name::None;
        };
        match self.entries.get(at as usize) {
            Some(Some((_, text))) => Name::Known(text),
            _ => Name::Unlisted,
        }
    }
}
