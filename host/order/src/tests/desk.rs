//! A machine driven by hand: short words in, short words out.

use super::{Batch, In, Out, SECOND, batch};
use crate::{Config, Input, Machine, Micros, Note, Output, ReplayId, Status};

pub(super) struct Desk {
    pub(super) machine: Machine<Batch>,
    now: Micros,
    /// The replay asked for, and whether it began.
    replay: Option<(ReplayId, bool)>,
    notes: Vec<Note>,
}

// === impl Desk ===

impl Desk {
    pub(super) fn new(config: Config) -> Self {
        Self {
            machine: Machine::new(config),
            now: SECOND,
            replay: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn status(&self) -> Status {
        self.machine.status()
    }

    pub(super) fn count(&self, note: Note) -> usize {
        self.notes.iter().filter(|n| **n == note).count()
    }

    pub(super) fn connected(&mut self) -> String {
        self.feed([Input::Connected])
    }

    pub(super) fn disconnected(&mut self) -> String {
        self.feed([Input::Disconnected])
    }

    pub(super) fn announced(&mut self) -> String {
        self.feed([Input::Announced])
    }

    /// Live frames, such as `a3 a4`.
    pub(super) fn live(&mut self, frames: &str) -> String {
        let live = |name| {
            let frame = batch(name);
            let sequence = frame.sequence;
            Input::Live { sequence, frame }
        };
        self.feed(frames.split_whitespace().map(live))
    }

    pub(super) fn replay_id(&self) -> ReplayId {
        self.replay.expect("a replay was asked for").0
    }

    /// The replay asked for begins, if it did not, and sends frames, `end` or `fails`.
    pub(super) fn replay(&mut self, words: &str) -> String {
        let id = self.replay_id();
        let mut inputs = Vec::new();
        if let Some((replay, begun @ false)) = &mut self.replay {
            *begun = true;
            inputs.push(Input::ReplayStarted { replay: *replay });
        }
        inputs.extend(words.split_whitespace().map(|word| match word {
            "end" => Input::ReplayEnd { replay: id },
            "fails" => Input::ReplayFailed { replay: id },
            frame => came_by(id, frame),
        }));
        self.feed(inputs)
    }

    /// A frame of any replay.
    pub(super) fn replayed(&mut self, replay: ReplayId, frame: &str) -> String {
        self.feed([came_by(replay, frame)])
    }

    pub(super) fn wait(&mut self, micros: Micros) -> String {
        self.now += micros;
        self.feed([Input::Tick])
    }

    fn feed(&mut self, inputs: impl IntoIterator<Item = In>) -> String {
        let mut out = Vec::new();
        for input in inputs {
            self.machine.handle(self.now, input, &mut out);
        }
        let words: Vec<_> = out.iter().filter_map(|o| self.word(o)).collect();
        words.join(", ")
    }

    fn word(&mut self, output: &Out) -> Option<String> {
        Some(match output {
            Output::Deliver {
                epoch,
                frame,
                replayed,
                ..
            } => {
                let star = if *replayed { "*" } else { "" };
                format!("e{} {}{star}", epoch.0, frame.name())
            }
            Output::Gap {
                epoch,
                first,
                last,
                reason,
            } => format!("e{} gap {first}-{last} {}", epoch.0, reason.name()),
            Output::Reset { epoch, reason } => format!("reset e{} {}", epoch.0, reason.name()),
            Output::StartReplay { replay, from } => {
                self.replay = Some((*replay, false));
                format!("ask {from}")
            }
            Output::Resumed => "resumed".into(),
            Output::StopReplay { .. } => "stop".into(),
            Output::Note(note) => {
                self.notes.push(*note);
                match note {
                    Note::Duplicate => "duplicate".into(),
                    Note::Stale => "stale".into(),
                    Note::TwoPublishers => "two publishers".into(),
                    Note::GapOpened | Note::GapFilled => return None,
                }
            }
        })
    }
}

fn came_by(replay: ReplayId, name: &str) -> In {
    let frame = batch(name);
    Input::Replayed {
        replay,
        sequence: frame.sequence,
        frame,
    }
}
