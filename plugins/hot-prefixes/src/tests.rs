use super::*;
use penstock_sdk::testing::{self, BatchBuilder, Host, batch, stored};
use serde_json::{Value, json};

/// Blocks of two tokens from a prompt's start; hashes are the engine's, 100 apart.
fn prompt(source: u32, hashes: &[u64]) -> BatchBuilder {
    let tokens: Vec<u32> = hashes.iter().flat_map(|h| [*h as u32 % 100, 7]).collect();
    batch(source).stored(stored(2, hashes).tokens(&tokens))
}

fn host(config: &str) -> Host<HotPrefixes> {
    let mut host = Host::start(config).unwrap();
    for (source, name) in [(1, "a"), (2, "b")] {
        host.join(source, name, "m");
    }
    host
}

fn ask(host: &mut Host<HotPrefixes>, body: &str) -> Vec<Value> {
    let answer: Value = serde_json::from_str(&host.handle(body).unwrap()).unwrap();
    answer["prefixes"].as_array().unwrap().clone()
}

/// Two engines whose requests share two blocks, one of them three.
fn busy() -> Host<HotPrefixes> {
    let mut host = host("{}");
    for end in [3, 4, 5] {
        assert_eq!(host.send(prompt(1, &[1, 2, end])), []);
        assert_eq!(host.send(prompt(2, &[101, 102, 100 + end])), []);
    }
    host.send(prompt(2, &[101, 102, 103, 106]));
    host
}

#[test]
fn hits_are_added_up_over_sources() {
    let rows = ask(&mut busy(), "");
    let first = &rows[0];
    assert_eq!(
        (first["blocks"].as_u64(), first["tokens"].as_u64()),
        (Some(2), Some(4))
    );
    assert_eq!(
        first["sources"],
        json!({"a": 2, "b": 2}),
        "as tokens say, not hashes"
    );
    assert_eq!((&first["hits"], &first["error"]), (&json!(4), &json!(0)));
    assert_eq!(first["prefix"].as_str().unwrap().len(), 16);
    assert_eq!(rows[1]["sources"], json!({"b": 1}));
    assert_eq!((rows.len(), &rows[1]["blocks"]), (2, &json!(3)));
}

#[test]
fn questions_choose_and_mistakes_are_named() {
    let mut host = busy();
    assert_eq!(ask(&mut host, r#"{"top": 1}"#).len(), 1);
    assert_eq!(ask(&mut host, r#"{"model": "other"}"#).len(), 0);
    assert_eq!(ask(&mut host, r#"{"min_tokens": 5}"#)[0]["blocks"], 3);
    for (body, why) in [
        (r#"{"top": 0}"#, "top: 0 is not in 1–1000"),
        (r#"{"top": "x"}"#, "body: top: invalid type"),
        (r#"{"tpo": 1}"#, "unknown field `tpo`"),
        ("[", "body: "),
    ] {
        let error = host.handle(body).unwrap_err();
        assert!(error.contains(why), "{body}: {error}");
    }
    let refused = |config| Host::<HotPrefixes>::start(config).err().unwrap();
    assert!(refused(r#"{"half_life_s": 0}"#).contains("half_life_s = 0"));
    assert!(refused(r#"{"max_blocks": 0}"#).contains("config: max_blocks"));
}

#[test]
fn only_what_requests_do_counts() {
    let mut host = host("{}");
    let tokens = [1, 7];
    let one = || stored(2, &[1]).tokens(&tokens);
    host.send(batch(1).stored(one()));
    host.send(batch(1).stored(one().medium(Medium::Cpu)));
    host.send(batch(1).stored(one().group(1)));
    host.send(batch(1).removed(Medium::Gpu, 0, &[1]));
    assert_eq!(ask(&mut host, "").len(), 0);
    host.send(batch(1).stored(one().adapter("sql")));
    assert_eq!(
        ask(&mut host, "").len(),
        0,
        "another prefix under the same hash"
    );
    host.send(batch(1).stored(one().adapter("sql")));
    assert_eq!(ask(&mut host, "").len(), 1);
    let refused = host.send(
        batch(1)
            .stored(stored(2, &[9]))
            .stored(stored(2, &[8]).tokens(&tokens).parent(77)),
    );
    assert_eq!(refused, [(0, 1), (1, 2)]);
}

#[test]
fn a_restart_forgets_blocks_and_a_leaving_everything() {
    let mut host = busy();
    host.reset(1, 1);
    assert_eq!(ask(&mut host, "")[0]["hits"], 4, "still popular");
    host.send(prompt(1, &[1, 2, 3]));
    assert_eq!(
        ask(&mut host, "")[0]["hits"],
        4,
        "its first time in this life"
    );
    host.leave(2);
    assert_eq!(ask(&mut host, "")[0]["sources"], json!({"a": 2}));
}

#[test]
fn counts_decay_and_are_told() {
    let mut host = Host::<HotPrefixes>::start(r#"{"half_life_s": 2}"#).unwrap();
    host.join(1, "a", "m");
    for end in [3, 4, 5, 6, 7] {
        host.send(prompt(1, &[1, 2, end]));
    }
    host.tick();
    assert_eq!(ask(&mut host, "")[0]["hits"], 4);
    assert_eq!(
        (testing::counter("hits"), testing::gauge("blocks")),
        (4, Some(7.0))
    );
    host.tick();
    assert_eq!(ask(&mut host, "")[0]["hits"], 2);
    for _ in 0..4 {
        host.tick();
    }
    assert_eq!(ask(&mut host, "").len(), 0);
    assert_eq!(testing::gauge("prefixes"), Some(0.0));
}

#[test]
fn a_new_build_goes_on_where_the_old_one_was() {
    let mut old = busy();
    let mut new = host("{}");
    for source in [1, 2] {
        let pieces = new.take_over(&mut old, source, 48).unwrap();
        assert!(pieces > 2, "{pieces}");
    }
    assert_eq!(ask(&mut new, ""), ask(&mut old, ""));
    // What was seen is known again, in the same order of use.
    let seen =
        |host: &Host<HotPrefixes>| host.plugin().sources[&2].chains.seen().collect::<Vec<_>>();
    assert_eq!(seen(&new), seen(&old));
    new.send(prompt(1, &[1, 2, 9]));
    assert_eq!(ask(&mut new, "")[0]["hits"], 5);

    let error = new.instance().restore(1, 9, b"").unwrap_err();
    assert_eq!(error, "state of schema 9 is not known: 1 is read");
    let error = new.take_over(&mut old, 1, 20).unwrap_err();
    assert!(error.contains("above 20"), "{error}");
}
