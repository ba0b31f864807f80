use super::*;
use serde_json::json;

fn both(value: &serde_json::Value) -> [Result<Request<IgnoredAny>, ErrorBody>; 2] {
    let packed = rmp_serde::to_vec_named(value).unwrap();
    [
        Request::from_json(value.to_string().as_bytes()),
        Request::from_msgpack(&packed),
    ]
}

fn lookup(op: Op, value: &serde_json::Value) -> Vec<Result<Lookup, ErrorBody>> {
    let config = DoorsConfig::default();
    both(value)
        .into_iter()
        .map(|r| r.and_then(|r| r.into_lookup(op, &config)))
        .collect()
}

#[test]
fn all_fields_arrive_in_both_encodings() {
    let value = json!({"id": [1], "token_ids": [0, 1, 4294967295u32], "model_name": "m",
        "lora_name": "l", "cache_salt": "s", "plugin": "p", "deadline_ms": 7,
        "include_stale": true, "tenant_id": "ignored", "nested": {"a": [1, {}]}});
    for found in lookup(Op::Query, &value) {
        let found = found.unwrap();
        assert_eq!(found.plugin.as_deref(), Some("p"));
        let wanted = Query {
            model: "m".into(),
            adapter: "l".into(),
            salt: "s".into(),
            by: By::Tokens([0, 1, u32::MAX].into()),
            deadline: Duration::from_millis(7),
            include_stale: true,
        };
        assert_eq!(found.query, wanted);
    }
}

#[test]
fn absent_and_null_fields_have_their_defaults() {
    for value in [
        json!({"token_ids": [], "model_name": ""}),
        json!({"token_ids": [], "model_name": "", "lora_name": null, "cache_salt": null,
            "plugin": null, "deadline_ms": null}),
    ] {
        for found in lookup(Op::Query, &value) {
            let found = found.unwrap();
            assert_eq!(found.plugin, None);
            assert_eq!(found.query.adapter, "");
            assert_eq!(found.query.deadline, Duration::from_secs(1));
            assert!(!found.query.include_stale);
        }
    }
}

#[test]
fn hashes_come_in_every_form() {
    let numbers = json!([
        1,
        18446744073709551615u64,
        -1,
        "7",
        "-2",
        "18446744073709551615"
    ]);
    let wanted: Vec<u64> = vec![1, u64::MAX, u64::MAX, 7, u64::MAX - 1, u64::MAX];
    for (kind, engine) in [
        (None, false),
        (Some("token"), false),
        (Some("engine"), true),
    ] {
        let mut value = json!({"block_hashes": numbers, "model_name": "m"});
        if let Some(kind) = kind {
            value["hashes"] = kind.into();
        }
        for found in lookup(Op::QueryByHash, &value) {
            match found.unwrap().query.by {
                By::TokenHashes(h) if !engine => assert_eq!(*h, wanted),
                By::EngineHashes(h) if engine => assert_eq!(*h, wanted),
                other => panic!("{other:?}"),
            }
        }
    }
    // Whole hashes of an engine, 32 bytes: the low 64 bits count.
    let mut packed = vec![0x82];
    packed.extend_from_slice(b"\xaablock_name\x00\xacblock_hashes\x91\xc4\x20");
    packed.extend((0..32u8).collect::<Vec<_>>());
    let request = Request::from_msgpack(&packed).unwrap();
    let hashes = request.block_hashes.unwrap().0;
    assert_eq!(hashes, [0x18191a1b1c1d1e1f]);
}

#[test]
fn tokens_come_as_little_endian_bytes_too() {
    let body = |bytes: &[u8]| {
        let mut packed = b"\x82\xaamodel_name\xa1m\xa9token_ids\xc4".to_vec();
        packed.push(bytes.len() as u8);
        packed.extend_from_slice(bytes);
        packed
    };
    let found = Request::from_msgpack(&body(&[1, 0, 0, 0, 0, 1, 0, 0])).unwrap();
    assert_eq!(found.token_ids.unwrap().0, [1, 256]);
    let error = Request::from_msgpack(&body(&[1, 0, 0])).unwrap_err();
    assert_eq!(
        error.error,
        "token_ids: expected bytes in multiples of 4, found 3"
    );
}

#[test]
fn wrong_types_name_the_place_and_what_is_expected() {
    let table = [
        (
            json!([1, 2, 3, "a"]),
            "token_ids[3]",
            "an unsigned 32-bit integer",
        ),
        (json!([-1]), "token_ids[0]", "an unsigned 32-bit integer"),
        (
            json!([4294967296u64]),
            "token_ids[0]",
            "an unsigned 32-bit integer",
        ),
        (json!([1.5]), "token_ids[0]", "an unsigned 32-bit integer"),
        (json!([true]), "token_ids[0]", "an unsigned 32-bit integer"),
        (json!([null]), "token_ids[0]", "an unsigned 32-bit integer"),
        (json!([[1]]), "token_ids[0]", "an unsigned 32-bit integer"),
        (
            json!("1,2"),
            "token_ids",
            "a list of unsigned 32-bit integers",
        ),
        (json!(5), "token_ids", "a list of unsigned 32-bit integers"),
        (
            json!({"a": 1}),
            "token_ids",
            "a list of unsigned 32-bit integers",
        ),
    ];
    for (tokens, place, expected) in table {
        let value = json!({"token_ids": tokens, "model_name": "m"});
        for found in lookup(Op::Query, &value) {
            let error = found.unwrap_err();
            assert!(error.error.starts_with(&format!("{place}: ")), "{error}");
            assert!(error.error.contains(expected), "{error}");
        }
    }
}

#[test]
fn other_mistakes_are_explained() {
    let table = [
        (Op::Query, json!({"model_name": "m"}), "token_ids: missing"),
        (Op::Query, json!({"token_ids": []}), "model_name: missing"),
        (
            Op::QueryByHash,
            json!({"model_name": "m", "token_ids": []}),
            "block_hashes: missing",
        ),
        (
            Op::Query,
            json!({"model_name": 5, "token_ids": []}),
            "model_name: ",
        ),
        (
            Op::Query,
            json!({"model_name": "m", "token_ids": [], "deadline_ms": 0}),
            "deadline_ms: expected 1 to 600000, found 0",
        ),
        (
            Op::Query,
            json!({"model_name": "m", "token_ids": [], "deadline_ms": "1"}),
            "deadline_ms: ",
        ),
        (
            Op::Query,
            json!({"model_name": "m", "token_ids": [], "deadline_ms": -1}),
            "deadline_ms: ",
        ),
        (
            Op::QueryByHash,
            json!({"model_name": "m", "block_hashes": ["x"]}),
            "block_hashes[0]: ",
        ),
        (
            Op::QueryByHash,
            json!({"model_name": "m", "block_hashes": [], "hashes": "sha"}),
            "hashes: ",
        ),
    ];
    for (op, value, wanted) in table {
        for found in lookup(op, &value) {
            let error = found.unwrap_err();
            assert!(error.error.starts_with(wanted), "{wanted}: {error}");
        }
    }
}

#[test]
fn what_is_no_request_is_refused() {
    for body in [
        "",
        "[]",
        "5",
        "[[1],[2]]",
        "{",
        "{\"token_ids\": [1",
        "{} x",
    ] {
        assert!(Request::from_json(body.as_bytes()).is_err(), "{body}");
    }
    let lies: [&[u8]; 4] = [
        &[],
        &[0x81],
        b"\x81\xa9token_ids\xdd\xff\xff\xff\xff\x01",
        b"\x81\xa9token_ids\xc6\xff\xff\xff\xff\x01",
    ];
    for body in lies {
        assert!(Request::from_msgpack(body).is_err(), "{body:x?}");
    }
    // A number is no field's name, and no variant's.
    for body in [
        b"\x81\x01\x02".as_slice(),
        b"\x81\xa2op\x02",
        b"\x81\x02\x91\x01",
    ] {
        assert!(Request::from_msgpack(body).is_err(), "{body:x?}");
    }
    let mut deep = b"\x81\xa4deep".to_vec();
    deep.extend(std::iter::repeat_n(0x91, 2_000));
    deep.push(0xc0);
    assert!(Request::from_msgpack(&deep).is_err());
    let deep = format!("{{\"token_ids\": {}", "[".repeat(2_000));
    assert!(Request::from_json(deep.as_bytes()).is_err());
}

#[test]
fn encodings_are_told_apart() {
    assert_eq!(Encoding::of(b" \n{}"), Some(Encoding::Json));
    assert_eq!(Encoding::of(&[0x80]), Some(Encoding::Msgpack));
    assert_eq!(Encoding::of(&[0xde, 0, 0]), Some(Encoding::Msgpack));
    for body in [&b"hello"[..], b"", b"[1]", &[0x90]] {
        assert_eq!(Encoding::of(body), None);
    }
}
