//! The names of everything the machine can do, so that tests can tell what they
//! never reached. In production they are not counted and cost nothing.

macro_rules! transitions {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One transition of the machine.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Transition { $($(#[$doc])* $name),* }

        impl Transition {
            /// All of them, in order.
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

transitions! {
    /// A frame came before any word of a connection: the connection is implied.
    Implied,
    /// Join: everything from the first sequence on is asked for.
    Join,
    /// Join: the first live frame is the engine's first, nothing is missing.
    JoinAtFirst,
    /// Join or reconnect: the replay came to its end.
    JoinDone,
    /// Join or reconnect: no replay came, the source goes on without.
    JoinUnanswered,
    /// A live frame came behind a hole.
    GapOpen,
    /// The replay reached the live frames that waited.
    Splice,
    /// The replay reached them and has other content: they are of another engine.
    SpliceDiffers,
    /// What waits is not in the engine's history: it was left from before.
    Leftover,
    /// A replay fell short but brought something: the rest is asked for.
    AskAgain,
    /// A replay brought nothing: the same is asked for again.
    Retry,
    /// Replays end without what is missing: reported.
    GiveUpEnded,
    /// Replays do not answer: reported.
    GiveUpSilent,
    /// A replay skipped sequences: asked for again from there.
    Hole,
    /// A replay begins later than asked: reported.
    LateStart,
    /// Something is missing and there is no replay: reported.
    GapNoReplay,
    /// Too much waits: what is missing before it is reported.
    Overflow,
    /// A replay's next frame did not come in time.
    Timeout,
    /// A replay's socket failed.
    ReplayFailed,
    /// Word of a replay that is not wanted any more was ignored.
    StaleReplay,
    /// The connection was lost; what waits, waits for the next one.
    Down,
    /// It did not come back in time: what is missing is reported.
    DownExpired,
    /// A reconnect: the last batch is asked for.
    VerifyReconnect,
    /// A connection after a checkpoint: its batch is asked for.
    VerifyResume,
    /// The engine is the one of the checkpoint.
    Resumed,
    /// It is not, or cannot show it: a restart.
    ResumeRefused,
    /// After a checkpoint: what came by a connection that is lost waits for the next.
    ResumeDoubt,
    /// An old sequence came live: the last batch is asked for.
    VerifyBackwards,
    /// The engine is the same one.
    Proven,
    /// It has other content: a restart.
    Differs,
    /// It does not have the last batch: a restart.
    Empty,
    /// Its history begins later than the last batch: a restart.
    Evicted,
    /// It did not answer: taken as a restart.
    Unanswered,
    /// Too much waits for the answer: taken as a restart.
    VerifyOverflow,
    /// A reconnect without a replay endpoint: taken as a restart.
    NoProof,
    /// The sequence went back, and there is no replay to ask: a restart.
    Backwards,
    /// Discovery announced a new engine.
    Announced,
    /// Frames of an engine that is gone were left out.
    Stale,
    /// An exact repeat was left out.
    Repeat,
    /// A live frame that the replay had brought before was left out.
    LateLive,
    /// The engine is the same, and frames that came are not its own: they are left out,
    /// and live frames wait until a replay confirms one.
    Strangers,
    /// The source was silent: its end is checked.
    TailCheck,
    /// The end had been lost; it was delivered, and the end is checked again.
    TailFound,
    /// Nothing was lost.
    TailEmpty,
    /// The check got no answer; it is made again later.
    TailUnanswered,
    /// A live frame came behind a hole while the end was checked.
    TailGap,
    /// Shared stream: an old sequence came; it is held.
    Suspect,
    /// The known track went on: there are two publishers.
    TwoTracks,
    /// A further frame of the second track was left out.
    SecondTrack,
    /// Only the new track went on: a restart.
    SuspectsGoOn,
    /// The known track stayed silent: a restart.
    SuspectsExpired,
}
