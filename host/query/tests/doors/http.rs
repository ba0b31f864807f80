use crate::room::{House, query, until};
use penstock_event::By;
use penstock_query::client::HttpClient;
use penstock_query::{Code, QueryError, Status};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

/// One request by hand: status and body.
fn call(house: &House, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let head = format!("Content-Length: {}\r\n", body.len());
    raw(house, method, path, &head, body)
}

fn raw(house: &House, method: &str, path: &str, head: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(house.doors().addresses().http.unwrap()).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // The door may answer and close before the body is through.
    let _ = stream.write_all(body);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    let end = reply.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let status = std::str::from_utf8(&reply[9..12]).unwrap().parse().unwrap();
    (status, reply[end + 4..].to_vec())
}

fn post(house: &House, path: &str, body: &Value) -> (u16, Value) {
    let (status, reply) = call(house, "POST", path, body.to_string().as_bytes());
    (status, serde_json::from_slice(&reply).unwrap())
}

fn get(house: &House, path: &str) -> (u16, Value) {
    let (status, reply) = call(house, "GET", path, b"");
    (status, serde_json::from_slice(&reply).unwrap())
}

#[test]
fn lookups_have_the_shape_of_dynamos_indexer() {
    let house = House::open();
    let asked = json!({"token_ids": [1, 2, 3], "model_name": "m", "lora_name": null});
    let (status, reply) = post(&house, "/query", &asked);
    assert_eq!(status, 200);
    assert_eq!(
        reply,
        json!({
            "scores": {"a": {"0": 3}},
            "frequencies": [],
            "instances": {"a": {"longest_matched": 3, "gpu": 3, "cpu": 0, "disk": 0, "other": 0,
                "dp": {"0": 3}, "blocks": {"0": 3}}},
            "positions": {"a/dp0": {"instance": "a", "epoch": 2, "sequence": 9,
                "complete": true, "verified": false, "link": "live"}},
            "unavailable": ["b"],
        })
    );
    let table = [
        (json!({"block_hashes": [1, -1], "model_name": "m"}), 200),
        (
            json!({"block_hashes": ["5"], "model_name": "m", "hashes": "engine"}),
            1_000,
        ),
    ];
    for (asked, tokens) in table {
        let (status, reply) = post(&house, "/query_by_hash", &asked);
        assert_eq!((status, &reply["scores"]["a"]["0"]), (200, &json!(tokens)));
    }
}

#[test]
fn what_cannot_be_answered_says_why() {
    let house = House::open();
    let with = |model: &str| json!({"token_ids": [1], "model_name": model});
    let table = [
        ("/query", with("other"), 404, "no_model"),
        ("/query", with("busy"), 503, "busy"),
        ("/query", with("broken"), 502, "failed"),
        ("/query", with("dropped"), 502, "failed"),
        (
            "/query",
            json!({"token_ids": ["x"], "model_name": "m"}),
            400,
            "bad_request",
        ),
        (
            "/query",
            json!({"token_ids": [1], "model_name": "m", "plugin": "x"}),
            404,
            "no_plugin",
        ),
        ("/query", json!([[1], "m"]), 400, "bad_request"),
        (
            "/query_by_hash",
            json!({"block_hashes": [1.5], "model_name": "m"}),
            400,
            "bad_request",
        ),
        ("/nowhere", json!({}), 404, "not_found"),
        ("/health", json!({}), 405, "method_not_allowed"),
        ("/v1/reload", json!({}), 404, "not_found"),
    ];
    for (path, body, wanted, code) in table {
        let (status, reply) = post(&house, path, &body);
        assert_eq!(
            (status, reply["code"].as_str()),
            (wanted, Some(code)),
            "{body}"
        );
        assert!(!reply["error"].as_str().unwrap().is_empty());
    }
    let (_, reply) = post(&house, "/query", &with("other"));
    assert_eq!(reply["models"], json!(["m"]));
    let (_, reply) = post(
        &house,
        "/query",
        &json!({"token_ids": [1, -1], "model_name": "m"}),
    );
    let error = reply["error"].as_str().unwrap();
    assert!(error.starts_with("token_ids[1]: "), "{error}");
    assert!(error.contains("an unsigned 32-bit integer"), "{error}");
}

#[test]
fn a_deadline_ends_the_wait_and_frees_the_place() {
    let house = House::with(|c| c.max_in_flight = 1);
    let asked = json!({"token_ids": [1], "model_name": "kept", "deadline_ms": 20});
    let (status, reply) = post(&house, "/query", &asked);
    assert_eq!((status, reply["code"].as_str()), (504, Some("deadline")));
    assert_eq!(house.room.kept(), 1);
    let (status, _) = post(
        &house,
        "/query",
        &json!({"token_ids": [1], "model_name": "m"}),
    );
    assert_eq!(status, 200);
}

#[test]
fn above_the_bound_lookups_are_told_busy() {
    let house = House::with(|c| c.max_in_flight = 1);
    std::thread::scope(|s| {
        let first = s.spawn(|| {
            let asked = json!({"token_ids": [1], "model_name": "kept", "deadline_ms": 30_000});
            post(&house, "/query", &asked)
        });
        until("the first lookup", || house.room.kept() == 1);
        let (status, reply) = post(
            &house,
            "/query",
            &json!({"token_ids": [1], "model_name": "m"}),
        );
        assert_eq!((status, reply["code"].as_str()), (503, Some("busy")));
        // Probes are never told busy.
        assert_eq!(get(&house, "/health").0, 200);
        let kept = house.room.kept.lock().unwrap().pop().unwrap();
        (kept.reply)(Ok(crate::room::answer(7)));
        let (status, reply) = first.join().unwrap();
        assert_eq!((status, &reply["scores"]["a"]["0"]), (200, &json!(7)));
    });
}

#[test]
fn bodies_are_bounded() {
    let house = House::with(|c| {
        c.max_body_bytes = 4 << 10;
        c.max_bodies_bytes = 8 << 10;
    });
    let (status, reply) = call(&house, "POST", "/query", &vec![b' '; (4 << 10) + 1]);
    let reply: Value = serde_json::from_slice(&reply).unwrap();
    assert_eq!((status, reply["code"].as_str()), (413, Some("too_large")));
    // Without a length: chunks, together above the limit.
    let chunk = [b"c00\r\n".as_slice(), &[b' '; 0xc00], b"\r\n"].concat();
    let body = [chunk.as_slice(), &chunk, b"0\r\n\r\n"].concat();
    let head = "Transfer-Encoding: chunked\r\n";
    let (status, _) = raw(&house, "POST", "/query", head, &body);
    assert_eq!(status, 413);
    assert_eq!(
        house.room.asked.load(std::sync::atomic::Ordering::SeqCst),
        0
    );

    // Two clients that announce bodies and do not send them hold all there is.
    // The door says 100 once it has begun to read.
    let hold = |_| {
        let mut stream = TcpStream::connect(house.doors().addresses().http.unwrap()).unwrap();
        let head = "POST /query HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n";
        let head = format!("{head}Content-Length: 4096\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut go_on = [0; 12];
        stream.read_exact(&mut go_on).unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100");
        stream
    };
    let held: Vec<TcpStream> = (0..2).map(hold).collect();
    let asked = json!({"token_ids": [1], "model_name": "m"});
    assert_eq!(post(&house, "/query", &asked).0, 503);
    drop(held);
    until("room for bodies", || {
        post(&house, "/query", &asked).0 == 200
    });
}

#[test]
fn sources_are_registered_as_with_dynamo() {
    let house = House::open();
    let asked = json!({"instance_id": 17, "endpoint": "tcp://h:1", "model_name": "m",
        "block_size": 16, "dp_rank": 1, "replay_endpoint": "tcp://h:2", "tenant_id": "t"});
    let (status, reply) = post(&house, "/register", &asked);
    let ignored = json!({"status": "ok", "ignored": ["tenant_id"]});
    assert_eq!((status, reply), (201, ignored), "nobody is to rely on it");
    let asked = json!({"instance_id": "vllm-0", "endpoint": "tcp://h:3", "model_name": ""});
    assert_eq!(post(&house, "/register", &asked).0, 201);
    {
        let registered = house.room.registered.lock().unwrap();
        let first = &registered[0];
        assert_eq!(
            (first.instance.as_str(), first.rank, first.block_size),
            ("17", Some(1), 16)
        );
        assert_eq!(first.replay.as_deref(), Some("tcp://h:2"));
        assert_eq!(registered[1].instance, "vllm-0");
        assert_eq!((registered[1].rank, registered[1].block_size), (None, 0));
    }
    let table = [
        (
            json!({"instance_id": 1, "endpoint": "taken", "model_name": "m"}),
            409,
            "taken",
        ),
        (
            json!({"instance_id": 1.5, "endpoint": "e", "model_name": "m"}),
            400,
            "instance_id: ",
        ),
        (
            json!({"instance_id": -1, "endpoint": "e", "model_name": "m"}),
            400,
            "instance_id: ",
        ),
        (
            json!({"instance_id": "", "endpoint": "e", "model_name": "m"}),
            400,
            "instance_id: ",
        ),
        (
            json!({"instance_id": 1, "endpoint": "", "model_name": "m"}),
            400,
            "endpoint: ",
        ),
        (
            json!({"endpoint": "e", "model_name": "m"}),
            400,
            "instance_id",
        ),
        (
            json!({"instance_id": 1, "endpoint": "e", "model_name": "m", "dp_rank": "0"}),
            400,
            "dp_rank: ",
        ),
    ];
    for (asked, wanted, says) in table {
        let (status, reply) = post(&house, "/register", &asked);
        assert_eq!(status, wanted, "{asked}");
        assert!(reply["error"].as_str().unwrap().contains(says), "{reply}");
    }
    let (status, reply) = post(
        &house,
        "/unregister",
        &json!({"instance_id": "a", "dp_rank": 0}),
    );
    assert_eq!(
        (status, reply),
        (200, json!({"status": "ok", "removed": 2}))
    );
    assert_eq!(house.room.unregistered.lock().unwrap()[0].rank, Some(0));
    assert_eq!(
        post(&house, "/unregister", &json!({"instance_id": "z"})).0,
        404
    );
    let (status, reply) = get(&house, "/workers");
    assert_eq!(status, 200);
    assert_eq!(
        reply,
        json!([{"instance_id": "a", "model_name": "m", "replay_endpoints": {},
            "endpoints": {"0": "tcp://127.0.0.1:5557", "1": "tcp://127.0.0.1:5558"},
            "links": {"0": "live", "1": "live"}}])
    );
}

#[test]
fn health_is_not_readiness() {
    let house = House::open();
    assert_eq!(
        get(&house, "/health"),
        (200, json!({"ok": true, "stuck": []}))
    );
    let (status, reply) = get(&house, "/ready");
    assert_eq!(
        (status, reply["reasons"].as_array().unwrap().len()),
        (503, 3)
    );
    house.open_all_gates();
    assert_eq!(
        get(&house, "/ready"),
        (200, json!({"ready": true, "reasons": []}))
    );
    let mut health = house.room.health.lock().unwrap();
    health.ok = false;
    health.stuck = vec!["ingest-0".into()];
    drop(health);
    let (status, reply) = get(&house, "/health");
    assert_eq!((status, &reply["stuck"]), (503, &json!(["ingest-0"])));
    assert_eq!(get(&house, "/ready").0, 200);
}

#[test]
fn an_operator_sees_everything() {
    let house = House::open();
    let (status, text) = call(&house, "GET", "/metrics", b"");
    assert_eq!(status, 200);
    assert!(String::from_utf8(text).unwrap().contains("penstock_up 1"));
    let client = HttpClient::new(&house.url());
    let status: Status = client.get("/v1/status").unwrap();
    assert_eq!(status.pid, std::process::id());
    let (_, plugins) = get(&house, "/v1/plugins");
    assert_eq!(plugins[0]["load_error"], "not a component");
    let (_, sources) = get(&house, "/v1/sources");
    assert_eq!(sources[1]["totals"]["gaps"], 1);

    let (status, reply) = call(&house, "POST", "/v1/plugins/index/request", b"abc");
    assert_eq!((status, reply.as_slice()), (200, b"cba".as_slice()));
    let (status, _) = call(&house, "POST", "/v1/plugins/none/request", b"abc");
    assert_eq!(status, 404);
}

#[test]
fn the_client_reads_answers_and_errors() {
    let house = House::open();
    let client = HttpClient::new(&house.url());
    let answer = client.query(Some("index"), &query("m", &[1, 2])).unwrap();
    assert_eq!(answer.instances["a"].longest_matched, 2);
    let mut by_hash = query("m", &[]);
    by_hash.by = By::EngineHashes([u64::MAX, 1, 2].into());
    let answer = client.query(None, &by_hash).unwrap();
    assert_eq!(answer.instances["a"].gpu, 3_000);
    match client.query(None, &query("other", &[])) {
        Err(QueryError::Refused(e)) => assert_eq!(e.code, Code::NoModel),
        other => panic!("{other:?}"),
    }
    match penstock_query::client::http("http://127.0.0.1:1", None, &query("m", &[])) {
        Err(QueryError::Unreachable { .. }) => {}
        other => panic!("{other:?}"),
    }
}
