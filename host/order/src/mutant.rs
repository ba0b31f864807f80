//! Faults put into the machine on purpose: the tests must find each of them.

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Mutant { $($(#[$doc])* $name),* }

        impl Mutant {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

mutants! {
    /// A gap is reported one short.
    GapOffByOne,
    /// After a reconnect a sequence that goes on is taken as proof.
    ContinuingIsProof,
    /// Restarts are judged against replayed sequences.
    JudgeByReplayed,
    /// The end is never checked.
    NoTailCheck,
    /// After frames were found at the end, the end is not checked again.
    TailOnce,
    /// A replay may take for ever.
    NoDeadline,
    /// A gap leaves the source complete.
    StaysComplete,
    /// What waits is thrown away when it is too much.
    OverflowDrops,
    /// Frames of old replays are accepted.
    StaleReplayAccepted,
    /// An exact repeat is delivered again.
    RepeatDelivered,
    /// A restart leaves the epoch as it was.
    SameEpoch,
    /// Any content proves the engine.
    DigestIgnored,
    /// A history that begins late is taken as whole.
    LateStartUnreported,
    /// A hole inside a replay is not asked for again.
    HoleSkipped,
    /// A second publisher is taken for a restart.
    SuspectsRestartAtOnce,
    /// A gap is given up at the first replay that fell short.
    NoSecondAttempt,
    /// The replay's copies of frames delivered live are delivered too.
    ReplayDuplicates,
    /// The join after a restart does not ask for the beginning.
    RestartSkipsBeginning,
    /// A buffer without a bound.
    NoBound,
    /// What a checkpoint tells is taken as it stands.
    ResumesUnchecked,
    /// The first epoch, whatever the checkpoint says.
    ResumesInFirstEpoch,
    /// The batch of the checkpoint is delivered again.
    ResumesAtSaved,
    /// The gaps of the checkpoint are forgotten.
    ResumesComplete,
    /// A checkpoint's epoch goes on where the engine could not show that it is the same.
    ResumesUnproven,
}
