use penstock_event::{Mode, SourceSpec};
use std::collections::BTreeMap;

/// A source as an operator declares it: perhaps several DP ranks at once.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// The engine instance's name.
    pub name: String,
    /// Endpoints of rank 0.
    pub endpoints: Vec<String>,
    /// Replay endpoint of rank 0.
    pub replay: Option<String>,
    /// Topic prefixes.
    pub topics: Vec<String>,
    /// Which side binds.
    pub mode: Mode,
    /// Model served.
    pub model: String,
    /// Sequence of a publisher's first batch.
    pub first_sequence: u64,
    /// Tokens a block.
    pub block_size: u32,
    /// Data-parallel ranks: port + rank each. 1: no rank in the name.
    pub ranks: u32,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
}

/// Longest name of an instance, and of a model, in bytes.
const MAX_NAME: usize = 512;

/// What is wrong with the name of an engine instance, if anything: it stands in
/// answers, metrics, logs and on terminals.
#[must_use]
pub fn bad_name(name: &str) -> Option<&'static str> {
    let odd = |c: char| c.is_control() || matches!(c, '/' | '"');
    match name {
        "" => Some("must not be empty"),
        _ if name.len() > MAX_NAME => Some("must not be longer than 512 bytes"),
        _ if name.contains(odd) => Some("must not hold a slash, a quote or a control character"),
        _ => None,
    }
}

/// The same for a model, which may be empty and hold slashes.
#[must_use]
pub fn bad_model(name: &str) -> Option<&'static str> {
    match name {
        _ if name.len() > MAX_NAME => Some("must not be longer than 512 bytes"),
        _ if name.contains(char::is_control) => Some("must not hold a control character"),
        _ => None,
    }
}

/// Why a declaration is no source.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExpandError {
    /// Ranks are told apart by port.
    #[error(
        "{endpoint:?} has no port to which a rank could be added; list each rank as a source of its own"
    )]
    NoPort {
        /// The endpoint.
        endpoint: String,
    },
    /// The ranks would pass the last port.
    #[error("{endpoint:?} + rank {rank} is past port 65535")]
    PortRange {
        /// The endpoint of rank 0.
        endpoint: String,
        /// The rank that does not fit.
        rank: u32,
    },
    /// PUB and replay ports of different ranks fall together.
    #[error(
        "with {ranks} ranks, the ports of {pub_endpoint:?} and {replay:?} overlap; put the replay port at least {ranks} away"
    )]
    Overlap {
        /// Endpoint of rank 0.
        pub_endpoint: String,
        /// Replay endpoint of rank 0.
        replay: String,
        /// Number of ranks.
        ranks: u32,
    },
}

// === impl Declared ===

impl Declared {
    /// One spec a rank.
    ///
    /// # Errors
    /// Ports that cannot be counted up, or that overlap.
    pub fn expand(&self) -> Result<Vec<SourceSpec>, ExpandError> {
        let ranks = self.ranks.max(1);
        if ranks > 1
            && let (Some(first), Some(replay)) = (self.endpoints.first(), &self.replay)
        {
            self.check_overlap(first, replay, ranks)?;
        }
        (0..ranks).map(|rank| self.rank(rank, ranks > 1)).collect()
    }

    fn rank(&self, rank: u32, several: bool) -> Result<SourceSpec, ExpandError> {
        let shift = |endpoint: &String| with_rank(endpoint, rank);
        Ok(SourceSpec {
            instance: self.name.clone(),
            rank: several.then_some(rank),
            endpoints: self.endpoints.iter().map(shift).collect::<Result<_, _>>()?,
            replay: self.replay.as_ref().map(shift).transpose()?,
            topics: self.topics.clone(),
            mode: self.mode,
            model: self.model.clone(),
            first_sequence: self.first_sequence,
            block_size: self.block_size,
            labels: self.labels.clone(),
        })
    }

    fn check_overlap(&self, endpoint: &str, replay: &str, ranks: u32) -> Result<(), ExpandError> {
        let (Some((host, a)), Some((other, b))) = (split(endpoint), split(replay)) else {
            return Ok(());
        };
        if host == other && a.abs_diff(b) < ranks {
            return Err(ExpandError::Overlap {
                pub_endpoint: endpoint.into(),
                replay: replay.into(),
                ranks,
            });
        }
        Ok(())
    }
}

fn split(endpoint: &str) -> Option<(&str, u32)> {
    let (host, port) = endpoint.rsplit_once(':')?;
    Some((host, port.parse::<u16>().ok()?.into()))
}

/// Engines publish rank `r` at port + `r`.
fn with_rank(endpoint: &str, rank: u32) -> Result<String, ExpandError> {
    if rank == 0 {
        return Ok(endpoint.into());
    }
    let (host, port) = split(endpoint).ok_or_else(|| ExpandError::NoPort {
        endpoint: endpoint.into(),
    })?;
    let port = port + rank;
    if port > 65_535 {
        return Err(ExpandError::PortRange {
            endpoint: endpoint.into(),
            rank,
        });
    }
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_ranks(endpoint: &str, replay: &str) -> Declared {
        Declared {
            name: "e".into(),
            endpoints: vec![endpoint.into()],
            replay: Some(replay.into()),
            ranks: 2,
            ..Declared::default()
        }
    }

    #[test]
    fn ranks_count_ports_up() {
        let specs = two_ranks("tcp://h:5557", "tcp://h:6557").expand().unwrap();
        assert_eq!(specs[1].endpoints, ["tcp://h:5558"]);
        assert_eq!(specs[1].replay.as_deref(), Some("tcp://h:6558"));
        assert_eq!(specs[1].name(), "e/dp1");
    }

    #[test]
    fn the_engines_default_ports_overlap() {
        let error = two_ranks("tcp://h:5557", "tcp://h:5558")
            .expand()
            .unwrap_err();
        assert!(matches!(error, ExpandError::Overlap { ranks: 2, .. }));
        let error = two_ranks("ipc:///x", "ipc:///y").expand().unwrap_err();
        assert!(matches!(error, ExpandError::NoPort { .. }));
        let error = two_ranks("tcp://h:65535", "tcp://h:6000")
            .expand()
            .unwrap_err();
        assert!(matches!(error, ExpandError::PortRange { rank: 1, .. }));
    }

    #[test]
    fn names_are_fit_for_terminals_and_paths() {
        for name in ["", "a/b", "a\"b", "a\nb", "\x1b[31mred", &"x".repeat(513)] {
            assert!(bad_name(name).is_some(), "{name:?}");
        }
        assert_eq!(bad_name("vllm-0.ns:8000"), None);
        assert_eq!(bad_model("meta-llama/Llama-3-8B"), None);
        assert_eq!(bad_model(""), None);
        assert!(bad_model("a\u{7}").is_some());
    }
}
