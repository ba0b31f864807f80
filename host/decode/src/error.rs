use thiserror::Error;

/// Why a batch, or one event of it, could not be decoded. `at` is the offset in
/// the payload, in bytes, where it was noticed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The payload ends within a value, or a length says more than there is.
    #[error("truncated at byte {at}")]
    Truncated {
        /// Offset of the value.
        at: usize,
    },
    /// A byte that begins no msgpack value.
    #[error("invalid msgpack marker at byte {at}")]
    InvalidMarker {
        /// Offset of the byte.
        at: usize,
    },
    /// Containers nested deeper than the limit.
    #[error("nested too deeply at byte {at}")]
    TooDeep {
        /// Offset of the container that went too deep.
        at: usize,
    },
    /// The payload is neither `[time, events, ...]` nor a map.
    #[error("not a batch at byte {at}")]
    NotABatch {
        /// Offset of the value.
        at: usize,
    },
    /// A batch without a list of events.
    #[error("no list of events at byte {at}")]
    NoEvents {
        /// Offset where the list was expected.
        at: usize,
    },
    /// More events than the limit.
    #[error("{count} events at byte {at}, above the limit")]
    TooManyEvents {
        /// Offset of the list.
        at: usize,
        /// Events in it.
        count: usize,
    },
    /// More blocks in the batch than the limit.
    #[error("{count} blocks up to byte {at}, above the limit")]
    TooManyBlocks {
        /// Offset of the list that went above.
        at: usize,
        /// Blocks so far, with that list.
        count: usize,
    },
    /// More tokens in the batch than the limit.
    #[error("{count} tokens up to byte {at}, above the limit")]
    TooManyTokens {
        /// Offset of the list that went above.
        at: usize,
        /// Tokens so far, with that list.
        count: usize,
    },
    /// An event that is neither an array nor a map.
    #[error("not an event at byte {at}")]
    NotAnEvent {
        /// Offset of the value.
        at: usize,
    },
    /// A tag that no known engine sends.
    #[error("unknown tag at byte {at}")]
    UnknownTag {
        /// Offset of the event.
        at: usize,
    },
    /// The tag `Ignored`: an engine's own placeholder.
    #[error("event tagged Ignored at byte {at}")]
    Ignored {
        /// Offset of the event.
        at: usize,
    },
    /// A field that the event cannot do without is absent.
    #[error("{} missing in the event at byte {at}", field.name())]
    Missing {
        /// The field.
        field: Field,
        /// Offset of the event.
        at: usize,
    },
    /// A field holds something it cannot hold.
    #[error("bad {} at byte {at}", field.name())]
    Bad {
        /// The field.
        field: Field,
        /// Offset of the value.
        at: usize,
    },
}

/// Fields of an event, for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The tag.
    Tag,
    /// `block_hashes`.
    Hashes,
    /// `parent_block_hash`.
    Parent,
    /// `token_ids`.
    Tokens,
    /// `block_size`.
    BlockSize,
    /// `lora_id` or `lora_name`.
    Adapter,
    /// `cache_salt`.
    Salt,
    /// `model_name`.
    Model,
    /// `medium`.
    Medium,
    /// `extra_keys` or `mm_keys`.
    ExtraKeys,
    /// `group_idx`.
    Group,
    /// `timestamp`.
    Time,
}

// === impl DecodeError ===

impl DecodeError {
    /// The short code, from a bounded set, as metrics and
    /// [`Skipped`](penstock_event::Skipped) carry it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated",
            Self::InvalidMarker { .. } => "invalid_marker",
            Self::TooDeep { .. } => "too_deep",
            Self::NotABatch { .. } => "not_a_batch",
            Self::NoEvents { .. } => "no_events",
            Self::TooManyEvents { .. } => "too_many_events",
            Self::TooManyBlocks { .. } => "too_many_blocks",
            Self::TooManyTokens { .. } => "too_many_tokens",
            Self::NotAnEvent { .. } => "not_an_event",
            Self::UnknownTag { .. } => "unknown_tag",
            Self::Ignored { .. } => "ignored_tag",
            Self::Missing { field, .. } => field.missing(),
            Self::Bad { field, .. } => field.bad(),
        }
    }

    /// True of an event that is whole but of a kind unknown here: what is known of
    /// the cache is no less complete without it.
    pub(crate) fn foreign(&self) -> bool {
        matches!(self, Self::UnknownTag { .. } | Self::Ignored { .. })
    }

    /// True when the batch is well formed as far as it was read, but larger than
    /// the limits.
    #[must_use]
    pub fn too_large(&self) -> bool {
        matches!(
            self,
            Self::TooManyEvents { .. } | Self::TooManyBlocks { .. } | Self::TooManyTokens { .. }
        )
    }
}

// === impl Field ===

impl Field {
    /// The field's name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tag => "tag",
            Self::Hashes => "block_hashes",
            Self::Parent => "parent_block_hash",
            Self::Tokens => "token_ids",
            Self::BlockSize => "block_size",
            Self::Adapter => "lora",
            Self::Salt => "cache_salt",
            Self::Model => "model_name",
            Self::Medium => "medium",
            Self::ExtraKeys => "extra_keys",
            Self::Group => "group_idx",
            Self::Time => "timestamp",
        }
    }

    fn missing(self) -> &'static str {
        match self {
            Self::Tag => "missing_tag",
            Self::Hashes => "missing_block_hashes",
            _ => "missing_field",
        }
    }

    fn bad(self) -> &'static str {
        match self {
            Self::Tag => "bad_tag",
            Self::Hashes => "bad_block_hashes",
            Self::Parent => "bad_parent",
            Self::Tokens => "bad_token_ids",
            Self::BlockSize => "bad_block_size",
            Self::Adapter => "bad_lora",
            Self::Salt => "bad_cache_salt",
            Self::Model => "bad_model_name",
            Self::Medium => "bad_medium",
            Self::ExtraKeys => "bad_extra_keys",
            Self::Group => "bad_group_idx",
            Self::Time => "bad_timestamp",
        }
    }
}
