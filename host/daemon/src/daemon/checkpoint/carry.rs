//! Sources of a shard that is down: what the last checkpoint holds of them is still the
//! newest that there is, and goes into the next one as it is.

use super::file::{Reader, Record, Writer};
use anyhow::{Context, Result};
use std::path::Path;

/// Copies what `last` has of the sources that `whose` names.
///
/// # Errors
/// It cannot be read any more, or the other one cannot be written.
pub fn over(
    last: &Path,
    to: &mut Writer,
    head: (bool, &str),
    whose: impl Fn(&str) -> bool,
) -> Result<()> {
    let (state, streams) = head;
    let mut reader = Reader::open(last).with_context(|| format!("{}", last.display()))?;
    let mut copies = false;
    while let Some(record) = reader.record()? {
        match &record {
            // Of another kind of plugin, or of other streams: of no use to this one.
            Record::Head {
                state: has,
                streams: read,
                ..
            } if (*has, &**read) != (state, streams) => return Ok(()),
            Record::Head { .. } | Record::End => continue,
            Record::Begin(source) => copies = whose(source),
            Record::Piece(..) | Record::Done(_) => {}
        }
        if copies {
            to.record(&record)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(path: &Path) -> Vec<Record> {
        let mut reader = Reader::open(path).unwrap();
        std::iter::from_fn(|| reader.record().unwrap()).collect()
    }

    #[test]
    fn only_what_is_of_the_shard_that_is_down_is_carried_over() {
        let home = tempfile::tempdir().unwrap();
        let (first, second) = (home.path().join("1"), home.path().join("2"));
        let head = |state| Record::Head {
            plugin: "index".into(),
            state,
            streams: String::new(),
        };
        let mut writer = Writer::new(home.path()).unwrap();
        writer.record(&head(true)).unwrap();
        for source in ["a", "b", "c"] {
            writer.record(&Record::Begin(source.into())).unwrap();
            let piece = source.as_bytes().to_vec();
            writer.record(&Record::Piece(2, piece)).unwrap();
            writer.record(&Record::Done(None)).unwrap();
        }
        writer.finish(&first).unwrap();

        let mut writer = Writer::new(home.path()).unwrap();
        over(&first, &mut writer, (true, ""), |source| source == "b").unwrap();
        over(&first, &mut writer, (false, ""), |_| true).unwrap();
        over(&first, &mut writer, (true, "dedupe"), |_| true).unwrap();
        writer.finish(&second).unwrap();
        let carried = [
            Record::Begin("b".into()),
            Record::Piece(2, b"b".to_vec()),
            Record::Done(None),
        ];
        assert_eq!(records(&second), carried);
        std::fs::write(&first, "damaged").unwrap();
        let mut writer = Writer::new(home.path()).unwrap();
        assert!(over(&first, &mut writer, (true, ""), |_| true).is_err());
    }
}
