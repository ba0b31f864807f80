//! The plugin as the daemon drives it.

use super::*;
use penstock_sdk::Medium;
use penstock_sdk::testing::{self, BatchBuilder, Host, Published, batch, stored};

fn host(config: &str) -> Host<Forward> {
    let mut host = Host::start(config).unwrap();
    host.join(1, "vllm-0/dp1", "llama");
    host
}

fn mixed() -> BatchBuilder {
    batch(1)
        .sequence(7)
        .rank(2)
        .times(1_500_000, 0)
        .stored(
            stored(2, &[10, 11])
                .tokens(&[1, 2, 3, 400])
                .parent(9)
                .adapter("sql")
                .salt("s")
                .group(3)
                .extra(1, 0xab)
                .time_us(2_000_000)
                .remote(),
        )
        .removed(Medium::Cpu, 0, &[12])
        .cleared()
}

fn only(published: Vec<Published>) -> Published {
    assert_eq!(published.len(), 1, "{published:?}");
    published.into_iter().next().unwrap()
}

/// The payload as JSON-like text.
fn show(payload: &[u8]) -> String {
    let mut reader = payload;
    let shown = value(&mut reader);
    assert!(reader.is_empty(), "bytes are left over");
    shown
}

fn value(r: &mut &[u8]) -> String {
    use rmp::Marker;
    let take = |r: &mut &[u8], n: usize| {
        let (head, rest) = r.split_at(n);
        *r = rest;
        head.to_vec()
    };
    let be = |bytes: Vec<u8>| bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let marker = Marker::from_u8(take(r, 1)[0]);
    match marker {
        Marker::Null => "nil".into(),
        Marker::FixPos(n) => n.to_string(),
        Marker::U8 => be(take(r, 1)).to_string(),
        Marker::U16 => be(take(r, 2)).to_string(),
        Marker::U64 => be(take(r, 8)).to_string(),
        Marker::F64 => f64::from_bits(be(take(r, 8))).to_string(),
        Marker::FixStr(n) => String::from_utf8(take(r, n.into())).unwrap(),
        Marker::FixArray(n) => {
            let all: Vec<_> = (0..n).map(|_| value(r)).collect();
            format!("[{}]", all.join(","))
        }
        Marker::FixMap(n) => {
            let field = |_| format!("{}:{}", value(r), value(r));
            let all: Vec<_> = (0..n).map(field).collect();
            format!("{{{}}}", all.join(","))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn raw_forwards_without_a_copy() {
    let mut host = host("{}");
    assert_eq!(host.send(mixed()), []);
    host.send(batch(1));
    let sent = testing::published();
    assert_eq!(sent.len(), 2, "an empty batch keeps the stream whole");
    assert_eq!(
        sent[0],
        Published {
            sink: "out".into(),
            topic: b"kv@vllm-0/dp1@llama".to_vec(),
            payload: None,
        }
    );
}

#[test]
fn a_mixed_batch_is_encoded_anew() {
    let mut host = host(
        r#"{"kinds": ["stored"], "sink": "s", "topic": "{instance}.{rank}.{sequence}.{epoch}"}"#,
    );
    host.send(mixed());
    let sent = only(testing::published());
    assert_eq!(
        (sent.sink.as_str(), sent.topic.as_slice()),
        ("s", &b"vllm-0/dp1.2.7.0"[..])
    );
    assert_eq!(
        show(&sent.payload.unwrap()),
        "[1.5,[{type:BlockStored,block_hashes:[10,11],parent_block_hash:9,\
         token_ids:[1,2,3,400],block_size:2,lora_id:nil,medium:GPU,lora_name:sql,\
         extra_keys:[nil,[digest:00000000000000ab]],group_idx:3,locality:REMOTE,\
         cache_salt:s,timestamp:2}],2]"
    );
    host.send(batch(1).stored(stored(2, &[1])));
    assert_eq!(only(testing::published()).payload, None, "all events pass");
    host.send(batch(1).cleared());
    host.send(batch(1));
    assert_eq!(testing::published(), [], "no event passes");
    host.instance().tick();
    assert_eq!(testing::counter("filtered_events"), 3);
    assert_eq!(testing::counter("forwarded_batches"), 2);
    assert_eq!(testing::counter("encoded_batches"), 1);
}

#[test]
fn encode_does_so_always() {
    let mut host = host(r#"{"mode": "encode"}"#);
    host.send(batch(1).removed(Medium::Unknown, 0, &[u64::MAX]).cleared());
    let sent = only(testing::published()).payload.unwrap();
    assert_eq!(
        show(&sent),
        "[0,[{type:BlockRemoved,block_hashes:[18446744073709551615],medium:UNKNOWN},\
         {type:AllBlocksCleared}],nil]"
    );
    let windows = stored(2, &[1, 2]).bigram().tokens(&[1, 2, 3, 3, 4, 5]);
    host.send(batch(1).stored(windows.model("qwen").medium(Medium::None)));
    let sent = only(testing::published()).payload.unwrap();
    assert_eq!(
        show(&sent),
        "[0,[{type:BlockStored,block_hashes:[1,2],parent_block_hash:nil,\
         token_ids:[[1,2],[2,3],[3,4],[4,5]],block_size:2,lora_id:nil,\
         model_name:qwen}],nil]"
    );
}

#[test]
fn filters_by_model_and_medium() {
    let gpu = || stored(2, &[1]);
    let cases = [
        (r#"{"models": ["llama"]}"#, batch(1).stored(gpu()), true),
        (r#"{"models": ["qwen"]}"#, batch(1).stored(gpu()), false),
        (
            r#"{"models": ["qwen"]}"#,
            batch(1).stored(gpu().model("qwen")),
            true,
        ),
        (
            r#"{"models": ["llama"]}"#,
            batch(1).stored(gpu().model("qwen")),
            false,
        ),
        (r#"{"models": ["qwen"]}"#, batch(9).stored(gpu()), false),
        (r#"{"media": ["gpu"]}"#, batch(1).stored(gpu()), true),
        (
            r#"{"media": ["cpu", "none"]}"#,
            batch(1).stored(gpu()),
            false,
        ),
        (
            r#"{"media": ["none"]}"#,
            batch(1).stored(gpu().medium(Medium::None)),
            true,
        ),
        (r#"{"media": ["cpu"]}"#, batch(1).cleared(), true),
        (r#"{"kinds": ["removed"]}"#, batch(1).cleared(), false),
    ];
    for (config, batch, passes) in cases {
        let mut host = host(config);
        host.send(batch.clone());
        assert_eq!(
            testing::published().len(),
            usize::from(passes),
            "{config} {batch:?}"
        );
    }
}

#[test]
fn what_the_sink_does_not_take_is_refused_and_counted() {
    let mut host = host(r#"{"kinds": ["stored", "cleared"]}"#);
    testing::refuse_publishing(Some(1));
    assert_eq!(host.send(mixed()), [(0, 1), (2, 1)]);
    testing::refuse_publishing(Some(3));
    assert_eq!(host.send(batch(1).cleared()), [(0, 3)]);
    testing::refuse_publishing(None);
    assert_eq!(host.send(batch(1).cleared()), []);
    host.instance().tick();
    assert_eq!(testing::counter("lost_events_full"), 2);
    assert_eq!(testing::counter("lost_events_closed"), 1);
    assert_eq!(testing::counter("forwarded_events"), 1);
}

#[test]
fn config_mistakes_are_named() {
    let cases = [
        (r#"{"mode": "fast"}"#, "encode"),
        (r#"{"kinds": ["store"]}"#, "stored"),
        (r#"{"media": ["vram"]}"#, "gpu"),
        (r#"{"topic": "a{pod}"}"#, "{instance}"),
        (r#"{"topic": "a{source"}"#, "not closed"),
        (r#"{"sinks": "x"}"#, "sink"),
    ];
    for (config, expected) in cases {
        let error = Host::<Forward>::start(config).err().unwrap();
        assert!(error.contains(expected), "{config}: {error}");
    }
}

#[test]
fn a_source_never_introduced_goes_by_its_number() {
    let mut host = host(r#"{"topic": "{source}/{model}/{rank}"}"#);
    host.send(batch(9));
    assert_eq!(only(testing::published()).topic, b"9//0");
}

#[test]
fn an_engine_that_lost_its_cache_is_told_as_a_clear() {
    let mut host = host(r#"{"topic": "{instance}.{rank}"}"#);
    host.reset(1, 1);
    let unknown = testing::published().len();
    assert_eq!(unknown, 2, "another instance may have forwarded something");
    let said = |rank: u32| batch(1).rank(rank).times(2_000_000, 0);
    for rank in [4, 4, 5] {
        host.send(said(rank).stored(stored(2, &[1])));
    }
    let _ = testing::published();
    host.reset(1, 2);
    let sent: Vec<_> = testing::published()
        .into_iter()
        .map(|m| (m.topic, show(&m.payload.unwrap())))
        .collect();
    let clear = |rank: u8| {
        (
            format!("vllm-0/dp1.{rank}").into_bytes(),
            format!("[2,[{{type:AllBlocksCleared}}],{rank}]"),
        )
    };
    assert_eq!(sent, [clear(4), clear(5)]);
    host.send(batch(1).stored(stored(2, &[1])));
    host.leave(1);
    assert_eq!(testing::published().len(), 2, "the batch and its end");
    host.leave(1);
    assert_eq!(testing::published(), []);

    let mut stores = self::host(r#"{"kinds": ["stored"]}"#);
    stores.send(batch(1).stored(stored(2, &[1])));
    let _ = testing::published();
    stores.reset(1, 1);
    assert_eq!(testing::published(), [], "clears were not asked for");
}

#[test]
fn what_never_came_leaves_a_number_out() {
    let gap = || testing::change(1, 3);
    let mut raw = host("{}");
    raw.change(gap());
    assert_eq!(testing::skipped(), 1);
    raw.send(batch(1).skipped(2).cleared());
    assert_eq!(testing::skipped(), 1, "the payload shows it");
    let mut anew = host(r#"{"mode": "encode"}"#);
    anew.send(batch(1).skipped(2).cleared());
    assert_eq!(testing::skipped(), 2);
    let mut none = host(r#"{"kinds": ["stored"]}"#);
    none.send(batch(1).skipped(1).cleared());
    assert_eq!(testing::skipped(), 3, "even when nothing else passes");
    none.send(batch(1).skipped(2));
    assert_eq!(testing::skipped(), 4, "or nothing else is there");
}
