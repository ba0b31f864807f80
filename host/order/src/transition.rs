//! The transitions by name, so that tests can show that each was taken.

/// One step from state to state, or within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(dead_code, reason = "counted in tests alone")]
pub(crate) enum Transition {
    /// A stream was met for the first time, or anew: its history is asked for.
    Join,
    /// The same without a replay endpoint: it begins with the first live frame.
    JoinWithoutReplay,
    /// The history was delivered up to the live frames.
    Joined,
    /// The next live frame came.
    Next,
    /// A live frame came ahead of one that is missing.
    GapOpened,
    /// A gap was closed by replay, nothing missing.
    GapFilled,
    /// Frames were given up and reported.
    GapReported,
    /// A gap without a replay endpoint.
    GapWithoutReplay,
    /// A live frame was put aside while something before it is missing.
    Buffered,
    /// Too much was put aside.
    Overflow,
    /// A live frame came twice.
    Duplicate,
    /// A replay brought what had come live, or the other way round.
    Overlap,
    /// A replay brought the next frame.
    Replayed,
    /// A replay began later than asked.
    Truncated,
    /// A replay has a hole, and is asked for again from there.
    HoleAsked,
    /// The hole is still there.
    HoleReported,
    /// A replay ended short, having brought something: asked for again.
    AskedOn,
    /// A replay ended short, having brought nothing: asked for again.
    AskedAgain,
    /// A replay did not answer in time.
    TimedOut,
    /// A replay's socket failed.
    Failed,
    /// A frame of a replay that is over was ignored.
    Stale,
    /// The connection was lost.
    Lost,
    /// After a reconnect, the last batch is asked for.
    Verify,
    /// It is the same: the stream goes on.
    Verified,
    /// It has another content: the engine restarted.
    ContentDiffers,
    /// Continuity could not be shown: as a restart.
    Unproven,
    /// The sequence went back: the engine restarted.
    Backwards,
    /// Discovery says that the engine is a new one.
    Announced,
    /// The stream fell silent: its end is checked.
    TailCheck,
    /// Nothing was missing at the end.
    TailClean,
    /// The end had been lost, and was found.
    TailFound,
    /// On a shared stream, a sequence went back: a second publisher or a restart?
    Suspect,
    /// The first one goes on: two publishers.
    TwoPublishers,
    /// Only the new one goes on: a restart.
    SuspectsRestart,
}

impl Transition {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [Self; 34] = [
        Self::Join,
        Self::JoinWithoutReplay,
        Self::Joined,
        Self::Next,
        Self::GapOpened,
        Self::GapFilled,
        Self::GapReported,
        Self::GapWithoutReplay,
        Self::Buffered,
        Self::Overflow,
        Self::Duplicate,
        Self::Overlap,
        Self::Replayed,
        Self::Truncated,
        Self::HoleAsked,
        Self::HoleReported,
        Self::AskedOn,
        Self::AskedAgain,
        Self::TimedOut,
        Self::Failed,
        Self::Stale,
        Self::Lost,
        Self::Verify,
        Self::Verified,
        Self::ContentDiffers,
        Self::Unproven,
        Self::Backwards,
        Self::Announced,
        Self::TailCheck,
        Self::TailClean,
        Self::TailFound,
        Self::Suspect,
        Self::TwoPublishers,
        Self::SuspectsRestart,
    ];
}

/// A mistake that a test plants in the machine, to see that it is noticed.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A reported gap ends one too late.
    GapOffByOne,
    /// Sequences that continue after a reconnect count as proof.
    ContinuingIsProof,
    /// The last batch's digest is asked for and not compared.
    DigestIgnored,
    /// Going back is judged against replayed sequences too.
    JudgedByReplay,
    /// The end of a silent stream is not checked.
    NoTailCheck,
    /// A wait has no deadline.
    NoDeadline,
    /// A gap does not make the stream incomplete.
    GapIsComplete,
    /// What waits is dropped when there is too much of it.
    OverflowDrops,
    /// Frames of a replay that is over are taken.
    StaleReplayTaken,
    /// A duplicate is delivered.
    DuplicateDelivered,
    /// A restart does not begin an epoch.
    SameEpoch,
    /// A replay that begins late is not reported.
    TruncationHidden,
    /// After a hole in a replay, what comes later is delivered, unreported.
    HoleHidden,
    /// Frames that wait are forgotten when their replay ends.
    BufferForgotten,
}

#[cfg(test)]
impl Mutant {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::GapOffByOne,
        Self::ContinuingIsProof,
        Self::DigestIgnored,
        Self::JudgedByReplay,
        Self::NoTailCheck,
        Self::NoDeadline,
        Self::GapIsComplete,
        Self::OverflowDrops,
        Self::StaleReplayTaken,
        Self::DuplicateDelivered,
        Self::SameEpoch,
        Self::TruncationHidden,
        Self::HoleHidden,
        Self::BufferForgotten,
    ];
}

/// True in tests that planted this mutant; false, and gone, in production.
macro_rules! mutant {
    ($machine:expr, $name:ident) => {{
        #[cfg(test)]
        {
            $machine.mutant == Some(crate::transition::Mutant::$name)
        }
        #[cfg(not(test))]
        {
            false
        }
    }};
}

pub(crate) use mutant;
