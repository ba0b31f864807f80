use super::*;
use penstock_event::{
    By, Columns, Epoch, EventRow, GapReason, Kind, Medium, ResetReason, Skipped, SourceInfo,
    SourceSpec,
};
use std::time::Duration;

fn source(id: u32, model: &str) -> Arc<SourceState> {
    let spec = SourceSpec {
        instance: format!("vllm-{id}"),
        model: model.into(),
        ..SourceSpec::default()
    };
    let info = SourceInfo {
        id: SourceId(id),
        name: spec.name().into(),
        spec,
    };
    let state = SourceState::new(info);
    state.set_link(Link::Live);
    Arc::new(state)
}

fn query(model: &str, include_stale: bool) -> Query {
    Query {
        model: model.into(),
        adapter: String::new(),
        salt: String::new(),
        by: By::Tokens([1].into()),
        deadline: Duration::from_secs(1),
        include_stale,
    }
}

fn batch(source: u32, sequence: u64, kind: Kind) -> Batch {
    let row = EventRow {
        kind,
        medium: Medium::None,
        flags: 0,
        group: 0,
        block_size: 0,
        adapter: 0,
        salt: 0,
        model: 0,
        medium_name: 0,
        block_end: 0,
    };
    let columns = Columns {
        events: row.to_words().to_vec(),
        parents: vec![0],
        ..Columns::default()
    };
    Batch {
        source: SourceId(source),
        epoch: Epoch(0),
        sequence,
        rank: None,
        published_us: 0,
        received_us: 0,
        replayed: false,
        dictionary_len: 0,
        columns: columns.into(),
        payload: Default::default(),
        digest: 0,
        skipped: Vec::new(),
    }
}

fn gap(source: u32) -> Change {
    Change::Gap {
        source: SourceId(source),
        epoch: Epoch(0),
        first: 1,
        last: 2,
        reason: GapReason::Truncated,
    }
}

fn row(source: u32) -> Row {
    Row {
        source,
        blocks: 1,
        ..Row::default()
    }
}

#[test]
fn a_gap_shows_until_a_reset_or_a_clear() {
    let mut applied = Applied::default();
    applied.change(&Change::Joined(source(1, "m")));
    let at = |applied: &Applied| {
        let answer = applied.answer(&query("m", false), Vec::new());
        (
            answer.positions[0].position.map(|p| p.sequence),
            answer.positions[0].complete,
        )
    };
    assert_eq!(at(&applied), (None, true));
    applied.change(&gap(1));
    applied.batch(&batch(1, 3, Kind::Removed));
    assert_eq!(at(&applied), (Some(3), false));
    applied.batch(&batch(1, 4, Kind::Cleared));
    assert_eq!(at(&applied), (Some(4), true));
    for (lost, complete) in [(0, true), (2, false)] {
        let mut odd = batch(1, 4, Kind::Cleared);
        let (event, code) = (1, "odd");
        odd.skipped = vec![Skipped { event, lost, code }];
        applied.batch(&odd);
        assert_eq!(at(&applied), (Some(4), complete), "{lost} event(s) lost");
    }
    applied.change(&gap(1));
    applied.change(&Change::Reset {
        source: SourceId(1),
        epoch: Epoch(1),
        reason: ResetReason::Backwards,
    });
    assert_eq!(at(&applied), (None, true));
}

#[test]
fn stale_sources_are_left_out_unless_asked_for() {
    let mut applied = Applied::default();
    let states = [source(1, "m"), source(2, "m"), source(3, "other")];
    for state in &states {
        applied.change(&Change::Joined(state.clone()));
    }
    states[1].set_link(Link::Stale);
    let rows = || vec![row(1), row(2), row(3)];
    let seen = |answer: &Answer| {
        let rows: Vec<_> = answer.rows.iter().map(|r| r.source).collect();
        let positions: Vec<_> = answer.positions.iter().map(|p| p.source.0).collect();
        (rows, positions)
    };
    let fresh = applied.answer(&query("m", false), rows());
    assert_eq!(seen(&fresh), (vec![1, 3], vec![1, 3]));
    assert_eq!(fresh.unavailable, ["vllm-2".into()], "stale, not empty");
    let all = applied.answer(&query("m", true), rows());
    assert_eq!(seen(&all), (vec![1, 2, 3], vec![1, 2, 3]));
    assert!(all.unavailable.is_empty());
    let none = applied.answer(&query("m", true), Vec::new());
    assert_eq!(seen(&none), (vec![], vec![1, 2]));
}

#[test]
fn a_source_never_reached_or_shared_is_not_complete() {
    let mut applied = Applied::default();
    let state = source(1, "m");
    applied.change(&Change::Joined(state.clone()));
    let complete = |applied: &Applied| {
        let answer = applied.answer(&query("m", false), Vec::new());
        answer.positions[0].complete
    };
    assert!(complete(&applied));
    state.set_link(Link::Connecting);
    assert!(!complete(&applied), "nothing is known of it");
    state.set_link(Link::Live);
    state.set_contested(true);
    assert!(!complete(&applied), "half of what comes is left out");
}

#[test]
fn a_model_nobody_serves_is_an_error_that_names_those_known() {
    let mut applied = Applied::default();
    for state in [source(1, "b"), source(2, "a")] {
        applied.change(&Change::Joined(state));
    }
    let known = LookupError::NoModel(vec!["a".into(), "b".into()]);
    assert_eq!(applied.serves(&query("c", false)), Err(known));
    assert_eq!(applied.serves(&query("a", false)), Ok(()));
    applied.change(&Change::Joined(source(3, "")));
    assert_eq!(applied.serves(&query("c", false)), Ok(()));
}

#[test]
fn sources_of_a_dead_instance_are_unavailable_until_they_join_again() {
    let mut applied = Applied::default();
    let states = [source(1, "m"), source(2, "m")];
    for state in &states {
        applied.change(&Change::Joined(state.clone()));
    }
    applied.lose();
    let names = |applied: &Applied| -> Vec<String> {
        let answer = applied.answer(&query("m", false), Vec::new());
        answer.unavailable.iter().map(ToString::to_string).collect()
    };
    assert_eq!(names(&applied), ["vllm-1", "vllm-2"]);
    assert_eq!(applied.serves(&query("m", false)), Ok(()));
    applied.change(&Change::Joined(states[0].clone()));
    assert_eq!(names(&applied), ["vllm-2"]);
    applied.change(&Change::Left(SourceId(2)));
    assert!(names(&applied).is_empty());
}
