//! What came out behind the forward plugin, from its file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use penstock_testkit::oracle::Oracle;
use serde_json::Value;
use std::path::Path;

/// One message in a file sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The source's name.
    pub source: String,
    /// Restarts of it.
    pub epoch: u64,
    /// The batch's number.
    pub sequence: u64,
    /// The message's topic.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
}

/// All whole lines of a file; none while there is no file.
pub fn lines(file: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let line = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        Line {
            source: value["source"].as_str().unwrap().into(),
            epoch: value["epoch"].as_u64().unwrap(),
            sequence: value["sequence"].as_u64().unwrap(),
            topic: value["topic"].as_str().unwrap().into(),
            payload: STANDARD.decode(value["payload"].as_str().unwrap()).unwrap(),
        }
    };
    whole.lines().map(line).collect()
}

/// Judges a source's lines: every batch that was published, once, in order, as
/// it was. Gives their number.
pub fn delivered(lines: &[Line], oracle: &Oracle, source: &str) -> usize {
    let mut of_source = lines.iter().filter(|l| l.source == source);
    let mut count = 0;
    for (life, sequence, payload) in oracle.published(source) {
        let at = format!("batch {life}/{sequence} of {source}");
        let line = of_source.next();
        let line = line.unwrap_or_else(|| panic!("{at} was not forwarded"));
        let found = (line.epoch, line.sequence);
        assert_eq!(found, (life as u64, sequence), "{at}: lost or doubled");
        assert!(line.payload == payload, "{at} is not what was published");
        count += 1;
    }
    assert_eq!(of_source.next(), None, "forwarded, but never published");
    count
}
