//! Loud diagnosis. An engine that publishes nothing, a wrong port, a topic that
//! matches nothing: all look the same, silence. Each is said once, with what to try.

use crate::endpoint::host;
use penstock_event::{Mode, SourceSpec};
use penstock_order::Micros;

/// What is worth saying about one socket, and whether it was said.
pub(crate) struct Hints {
    start: Micros,
    up_since: Option<Micros>,
    /// Handshakes that failed: something else than ZeroMQ answers.
    pub(crate) strangers: u64,
    heard: bool,
    said_unreachable: bool,
    said_silent: bool,
    /// Batches that had come by replay when it was last looked, and when that was.
    replayed: Option<(u64, Micros)>,
}

// === impl Hints ===

impl Hints {
    pub(crate) fn new(start: Micros) -> Self {
        Self {
            start,
            up_since: None,
            strangers: 0,
            heard: false,
            said_unreachable: false,
            said_silent: false,
            replayed: None,
        }
    }

    pub(crate) fn up(&mut self, now: Micros) {
        self.up_since.get_or_insert(now);
    }

    pub(crate) fn heard(&mut self) {
        self.heard = true;
    }

    pub(crate) fn deadline(&self, after: Micros) -> Option<Micros> {
        match self.up_since {
            None if !self.said_unreachable => Some(self.start + after),
            Some(since) if !self.heard && !self.said_silent => {
                let since = self.replayed.map_or(since, |(_, looked)| looked);
                Some(since + after)
            }
            _ => None,
        }
    }

    /// The hint that is due, if any. `replayed`: batches that came by replay so far.
    pub(crate) fn due(
        &mut self,
        now: Micros,
        after: Micros,
        spec: &SourceSpec,
        replayed: u64,
    ) -> Option<String> {
        if self.deadline(after).is_none_or(|at| at > now) {
            return None;
        }
        if self.up_since.is_none() {
            self.said_unreachable = true;
            return Some(unreachable(spec, self.strangers));
        }
        // What was published before this daemon came arrives by replay alone, and an
        // engine may be idle since. One that goes on is not.
        match self.replayed.replace((replayed, now)) {
            _ if replayed == 0 => {
                self.said_silent = true;
                Some(silent(spec))
            }
            Some((before, _)) if before < replayed => {
                self.said_silent = true;
                Some(by_replay_alone(spec))
            }
            _ => None,
        }
    }
}

fn unreachable(spec: &SourceSpec, strangers: u64) -> String {
    let endpoints = spec.endpoints.join(", ");
    if spec.mode == Mode::Bind {
        return format!(
            "no engine has connected to {endpoints} yet; an engine connects only when its \
             endpoint names this host, and binds when it holds *, :: or ipc://"
        );
    }
    if strangers > 0 {
        return format!(
            "what answers at {endpoints} is no ZeroMQ publisher ({strangers} handshakes failed); \
             is it the engine's HTTP port?"
        );
    }
    let hosts = spec.endpoints.iter().filter_map(|e| host(e));
    for host in hosts {
        let interface = std::path::Path::new("/sys/class/net").join(host);
        if !host.starts_with('[') && interface.exists() {
            return format!(
                "{host} is an interface of this machine, which can be bound but not connected \
                 to; name the engine's host"
            );
        }
    }
    format!(
        "nothing answers at {endpoints} yet (it is tried again for ever). Is the engine up, with \
         --kv-events-config? Data-parallel ranks listen at port + rank"
    )
}

fn topics(spec: &SourceSpec) -> String {
    if spec.topics.is_empty() {
        "every topic".to_owned()
    } else {
        format!("only the topics {:?}", spec.topics)
    }
}

fn by_replay_alone(spec: &SourceSpec) -> String {
    format!(
        "the engine publishes, but its batches come by replay alone, seconds late: its topic may \
         be another one (subscribed to {}), or {} be the endpoint of another engine",
        topics(spec),
        spec.endpoints.join(", ")
    )
}

fn silent(spec: &SourceSpec) -> String {
    let endpoints = spec.endpoints.join(", ");
    let topics = topics(spec);
    format!(
        "connected to {endpoints}, but no message yet. An idle engine sends nothing; if it is \
         busy: events may be off (--kv-events-config), or its topic be another one (subscribed \
         to {topics}), or this be its replay port"
    )
}

/// Endpoints that a new source shares with one that is there: as a rule ranks whose
/// ports overlap.
pub fn overlaps<'a>(
    spec: &SourceSpec,
    others: impl IntoIterator<Item = &'a SourceSpec>,
) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(replay) = &spec.replay
        && spec.endpoints.contains(replay)
    {
        found.push(format!("{replay} is both its live and its replay endpoint"));
    }
    if spec.mode == Mode::Bind {
        return found;
    }
    for theirs in others {
        let name = theirs.name();
        if theirs.mode == Mode::Bind {
            continue;
        }
        for endpoint in &spec.endpoints {
            if theirs.endpoints.contains(endpoint) && topics_overlap(spec, theirs) {
                found.push(format!(
                    "{endpoint} is read by source {name:?} too: each event will count twice"
                ));
            }
            if theirs.replay.as_ref() == Some(endpoint) {
                found.push(format!(
                    "{endpoint} is the replay endpoint of source {name:?}: ranks offset both \
                     ports, so the two ranges must not touch"
                ));
            }
        }
        if let Some(replay) = &spec.replay
            && theirs.endpoints.contains(replay)
        {
            found.push(format!(
                "its replay endpoint {replay} is the live endpoint of source {name:?}: ranks \
                 offset both ports, so the two ranges must not touch"
            ));
        }
    }
    found
}

fn topics_overlap(a: &SourceSpec, b: &SourceSpec) -> bool {
    let all = |spec: &SourceSpec| spec.topics.is_empty();
    let prefix = |x: &String, y: &String| x.starts_with(y) || y.starts_with(x);
    all(a)
        || all(b)
        || a.topics
            .iter()
            .any(|x| b.topics.iter().any(|y| prefix(x, y)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;

    #[test]
    fn silence_is_said_once() {
        let spec = spec("a", &["tcp://h:1"]);
        let mut hints = Hints::new(0);
        assert_eq!(hints.due(9, 10, &spec, 0), None);
        assert!(
            hints
                .due(10, 10, &spec, 0)
                .unwrap()
                .contains("nothing answers")
        );
        assert_eq!(hints.deadline(10), None);
        hints.up(20);
        assert_eq!(hints.deadline(10), Some(30));
        assert!(
            hints
                .due(30, 10, &spec, 0)
                .unwrap()
                .contains("no message yet")
        );
        assert_eq!(hints.due(99, 10, &spec, 0), None);

        let mut heard = Hints::new(0);
        heard.up(1);
        heard.heard();
        assert_eq!(heard.deadline(10), None);
    }

    #[test]
    fn an_engine_that_only_replays_is_no_idle_one() {
        let mut spec = spec("a", &["tcp://h:1"]);
        spec.topics = vec!["kv_events".into()];
        let mut hints = Hints::new(0);
        hints.up(0);
        assert_eq!(hints.due(10, 10, &spec, 40), None, "from before it came");
        assert_eq!(hints.due(20, 10, &spec, 40), None);
        assert_eq!(hints.deadline(10), Some(30));
        let said = hints.due(30, 10, &spec, 41).unwrap();
        assert!(said.contains("kv_events"), "{said}");
        assert_eq!(hints.deadline(10), None);
    }

    #[test]
    fn strangers_and_interfaces_are_named() {
        let mut hints = Hints::new(0);
        hints.strangers = 3;
        let said = hints.due(10, 10, &spec("a", &["tcp://h:1"]), 0).unwrap();
        assert!(said.contains("no ZeroMQ publisher"));
        let said = unreachable(&spec("a", &["tcp://lo:1"]), 0);
        assert!(said.contains("interface"), "{said}");
    }

    #[test]
    fn ports_that_overlap_are_named() {
        let mut first = spec("a", &["tcp://h:5557"]);
        first.replay = Some("tcp://h:5558".into());
        let others = [first];

        let second = spec("b", &["tcp://h:5558"]);
        let found = overlaps(&second, &others);
        assert!(
            found[0].contains("replay endpoint of source \"a\""),
            "{found:?}"
        );

        let mut twice = spec("c", &["tcp://h:5557"]);
        assert_eq!(overlaps(&twice, &others).len(), 1);
        twice.replay = Some("tcp://h:5557".into());
        assert_eq!(overlaps(&twice, &others).len(), 3);
        assert_eq!(overlaps(&spec("d", &["tcp://h:5559"]), &others), [""; 0]);
    }

    #[test]
    fn different_topics_do_not_overlap() {
        let (mut a, mut b) = (spec("a", &["tcp://h:1"]), spec("b", &["tcp://h:1"]));
        a.topics = vec!["kv@a".into()];
        b.topics = vec!["kv@b".into()];
        assert!(!topics_overlap(&a, &b));
        b.topics = vec!["kv".into()];
        assert!(topics_overlap(&a, &b));
    }
}
