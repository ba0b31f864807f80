//! The plugin as the daemon drives it.

use super::*;
use penstock_sdk::Medium;
use penstock_sdk::testing::{self, Host, batch, stored};

fn host() -> Host<PrefixIndex> {
    let mut host = Host::start("{}").unwrap();
    host.join(1, "vllm-0", "llama");
    host.join(2, "vllm-1", "llama");
    host
}

fn query(tokens: &[u32]) -> Query {
    Query {
        model: "llama".into(),
        adapter: String::new(),
        salt: String::new(),
        by: By::Tokens(tokens.to_vec()),
    }
}

fn row(source: u32, blocks: u32, tokens: u32) -> Row {
    Row {
        source,
        blocks,
        tokens,
        gpu: tokens,
        ..Row::default()
    }
}

const PROMPT: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

#[test]
fn the_longest_prefix_of_each_source_is_found() {
    let mut host = host();
    host.send(batch(1).stored(stored(2, &[10, 11, 12]).tokens(&PROMPT[..6])));
    host.send(batch(1).stored(stored(2, &[13]).tokens(&PROMPT[6..]).parent(12)));
    host.send(batch(2).stored(stored(4, &[20]).tokens(&PROMPT[..4])));
    assert_eq!(
        host.find(&query(&PROMPT)).unwrap(),
        [row(1, 4, 8), row(2, 1, 4)]
    );
    assert_eq!(
        host.find(&query(&PROMPT[..5])).unwrap(),
        [row(1, 2, 4), row(2, 1, 4)]
    );
    assert_eq!(host.find(&query(&[9, 2, 3, 4])).unwrap(), []);
    let other_model = Query {
        model: "qwen".into(),
        ..query(&PROMPT)
    };
    assert_eq!(host.find(&other_model).unwrap(), []);

    let hashes = |by| Query { by, ..query(&[]) };
    let token_hashes: Vec<u64> = PROMPT
        .chunks(2)
        .map(|c| hash::token_hash(c, 1337))
        .collect();
    let by_token_hash = hashes(By::TokenHashes(token_hashes));
    assert_eq!(host.find(&by_token_hash).unwrap(), [row(1, 4, 8)]);
    let by_engine_hash = hashes(By::EngineHashes(vec![10, 11, 99, 12]));
    assert_eq!(host.find(&by_engine_hash).unwrap(), [row(1, 2, 4)]);
    assert!(host.find(&hashes(By::Other(9))).is_err());
}

#[test]
fn adapters_and_salts_are_kept_apart() {
    let mut host = host();
    host.send(batch(1).stored(stored(8, &[1]).tokens(&PROMPT)));
    host.send(batch(1).stored(stored(8, &[2]).tokens(&PROMPT).adapter("sql")));
    host.send(batch(2).stored(stored(8, &[3]).tokens(&PROMPT).salt("sql")));
    let ask = |adapter: &str, salt: &str| Query {
        adapter: adapter.into(),
        salt: salt.into(),
        ..query(&PROMPT)
    };
    assert_eq!(host.find(&ask("", "")).unwrap(), [row(1, 1, 8)]);
    assert_eq!(host.find(&ask("sql", "")).unwrap(), [row(1, 1, 8)]);
    assert_eq!(host.find(&ask("", "sql")).unwrap(), [row(2, 1, 8)]);
    assert_eq!(host.find(&ask("sql", "sql")).unwrap(), []);
    host.send(batch(1).removed(Medium::Gpu, 0, &[2]));
    assert_eq!(host.find(&ask("sql", "")).unwrap(), []);
    assert_eq!(host.find(&ask("", "")).unwrap(), [row(1, 1, 8)]);
}

#[test]
fn blocks_with_extra_keys_and_those_below_answer_no_plain_query() {
    let mut host = host();
    let event = stored(2, &[10, 11, 12]).tokens(&PROMPT[..6]).extra(1, 77);
    host.send(batch(1).stored(event));
    host.send(batch(1).stored(stored(2, &[13]).tokens(&PROMPT[6..]).parent(12)));
    assert_eq!(host.find(&query(&PROMPT)).unwrap(), [row(1, 1, 2)]);
    let by_engine_hash = Query {
        by: By::EngineHashes(vec![10, 11, 12, 13]),
        ..query(&[])
    };
    assert_eq!(host.find(&by_engine_hash).unwrap(), [row(1, 4, 8)]);
}

#[test]
fn references_are_counted_by_medium() {
    let mut host = host();
    let event = || stored(4, &[10, 11]).tokens(&PROMPT);
    host.send(batch(1).stored(event()).stored(event()));
    // A placeholder: the same blocks, offloaded, without tokens.
    host.send(batch(1).stored(stored(0, &[10, 11]).medium(Medium::Cpu)));
    let both = Row {
        cpu: 8,
        ..row(1, 2, 8)
    };
    assert_eq!(host.find(&query(&PROMPT)).unwrap(), [both]);
    host.send(batch(1).removed(Medium::Gpu, 0, &[10, 11]));
    assert_eq!(host.find(&query(&PROMPT)).unwrap(), [both]);
    host.send(batch(1).removed(Medium::Gpu, 0, &[11]));
    assert_eq!(
        host.find(&query(&PROMPT)).unwrap(),
        [Row { gpu: 4, ..both }]
    );
    host.send(
        batch(1)
            .removed(Medium::Gpu, 0, &[11])
            .removed(Medium::Disk, 0, &[10]),
    );
    host.instance().tick();
    assert_eq!(testing::counter("unknown_removes"), 2);
    host.send(batch(1).removed(Medium::Cpu, 0, &[11]));
    let first = Row {
        cpu: 4,
        ..row(1, 1, 4)
    };
    assert_eq!(host.find(&query(&PROMPT)).unwrap(), [first]);
}

#[test]
fn a_medium_not_named_counts_as_device_memory() {
    let mut host = host();
    let event = |m| stored(4, &[10]).tokens(&PROMPT[..4]).medium(m);
    host.send(batch(1).stored(event(Medium::None)));
    host.send(batch(2).stored(event(Medium::Unknown)));
    let elsewhere = Row {
        gpu: 0,
        other: 4,
        ..row(2, 1, 4)
    };
    assert_eq!(
        host.find(&query(&PROMPT)).unwrap(),
        [row(1, 1, 4), elsewhere]
    );
}

#[test]
fn ranks_and_models_are_workers_of_their_own() {
    let mut host = host();
    host.send(
        batch(1)
            .rank(0)
            .stored(stored(4, &[10]).tokens(&PROMPT[..4])),
    );
    host.send(
        batch(1)
            .rank(3)
            .stored(stored(4, &[10, 11]).tokens(&PROMPT)),
    );
    host.send(batch(2).stored(stored(8, &[10]).tokens(&PROMPT).model("qwen")));
    let rank3 = Row {
        rank: 3,
        ..row(1, 2, 8)
    };
    assert_eq!(host.find(&query(&PROMPT)).unwrap(), [row(1, 1, 4), rank3]);
    let qwen = Query {
        model: "qwen".into(),
        ..query(&PROMPT)
    };
    assert_eq!(host.find(&qwen).unwrap(), [row(2, 1, 8)]);
    // A removal that names no model still finds the block.
    host.send(batch(2).removed(Medium::Gpu, 0, &[10]));
    assert_eq!(host.find(&qwen).unwrap(), []);
    host.send(batch(1).rank(3).cleared());
    assert_eq!(host.find(&query(&PROMPT)).unwrap(), [row(1, 1, 4)]);
}

#[test]
fn resets_and_departures_forget_a_source_and_gaps_nothing() {
    let mut host = host();
    let fill = |host: &mut Host<PrefixIndex>| {
        for source in [1, 2] {
            host.send(batch(source).stored(stored(4, &[10, 11]).tokens(&PROMPT)));
        }
    };
    fill(&mut host);
    host.change(testing::change(1, 3));
    assert_eq!(host.find(&query(&PROMPT)).unwrap().len(), 2);
    host.reset(1, 1);
    assert_eq!(host.find(&query(&PROMPT)).unwrap(), [row(2, 2, 8)]);
    host.leave(2);
    assert_eq!(host.find(&query(&PROMPT)).unwrap(), []);
    fill(&mut host);
    assert_eq!(host.find(&query(&PROMPT)).unwrap(), [row(1, 2, 8)]);
    host.instance().tick();
    assert_eq!(testing::gauge("blocks"), Some(4.0));
    assert_eq!(testing::gauge("workers"), Some(2.0));
}

#[test]
fn a_smaller_last_block_counts() {
    let mut host = host();
    host.send(batch(1).stored(stored(3, &[10, 11]).tokens(&PROMPT[..6])));
    host.send(batch(2).stored(stored(3, &[10]).tokens(&PROMPT[..3])));
    let partial = |parent, tokens| stored(2, &[12]).tokens(tokens).parent(parent);
    host.send(batch(1).stored(partial(11, &PROMPT[6..])));
    host.send(batch(2).stored(partial(10, &PROMPT[3..5])));
    assert_eq!(
        host.find(&query(&PROMPT)).unwrap(),
        [row(1, 3, 8), row(2, 2, 5)]
    );
    assert_eq!(
        host.find(&query(&PROMPT[..7])).unwrap(),
        [row(1, 2, 6), row(2, 2, 5)]
    );
}

#[test]
fn bigram_windows_overlap_by_one_token() {
    let mut host = host();
    let windows = [1, 2, 3, 3, 4, 5, 5, 6, 7];
    host.send(batch(1).stored(stored(2, &[10, 11, 12]).bigram().tokens(&windows)));
    assert_eq!(host.find(&query(&PROMPT)).unwrap(), [row(1, 3, 6)]);
    assert_eq!(host.find(&query(&PROMPT[..6])).unwrap(), [row(1, 2, 4)]);
}

#[test]
fn a_model_that_is_not_told_apart_is_refused() {
    let mut host = host();
    let mut names = testing::Names::default();
    let mut raw = batch(1)
        .stored(stored(4, &[10]).tokens(&PROMPT[..4]))
        .build(&mut names);
    raw.events[5] = u32::MAX;
    let refused = host.instance().on_batch(&raw);
    assert_eq!((refused[0].event, refused[0].code), (0, MODEL_UNLISTED));
    assert_eq!(host.plugin().index().sizes().blocks, 0);
}

#[test]
fn the_config_is_checked() {
    assert!(Host::<PrefixIndex>::start(r#"{"max_bytes": 1048576}"#).is_ok());
    let small = Host::<PrefixIndex>::start(r#"{"max_bytes": 9}"#);
    assert!(small.is_err_and(|e| e.contains("1 MiB")));
    let typo = Host::<PrefixIndex>::start(r#"{"max_byte": 9}"#);
    assert!(typo.is_err_and(|e| e.contains("max_bytes")));
}
