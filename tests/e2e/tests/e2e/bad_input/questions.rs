use crate::rig::{CALM, Hand, series};
use penstock_testkit::daemon::Setup;
use serde_json::{Value, json};

/// Lookups that cannot be read, and words of what is expected instead.
fn wrong() -> Vec<(Value, &'static [&'static str])> {
    vec![
        (
            json!({"token_ids": "1,2", "model_name": "m"}),
            &["token_ids", "expected a list"],
        ),
        (
            json!({"token_ids": [1, "a"], "model_name": "m"}),
            &["token_ids[1]", "expected an unsigned 32-bit"],
        ),
        (
            json!({"token_ids": [1, -1], "model_name": "m"}),
            &["token_ids[1]", "expected an unsigned 32-bit"],
        ),
        (
            json!({"token_ids": [1.5], "model_name": "m"}),
            &["token_ids[0]", "expected an unsigned 32-bit"],
        ),
        (
            json!({"model_name": "m"}),
            &["token_ids", "expected a list"],
        ),
        (
            json!({"token_ids": [1]}),
            &["model_name", "expected a string"],
        ),
        (
            json!({"token_ids": [1], "model_name": 5}),
            &["model_name", "expected a string"],
        ),
        (
            json!({"token_ids": [1], "model_name": "m", "deadline_ms": 0}),
            &["deadline_ms", "expected 1 to"],
        ),
        (
            json!({"token_ids": [1], "model_name": "m", "include_stale": 1}),
            &["include_stale", "expected a boolean"],
        ),
        (json!([1, 2]), &["expected a JSON object"]),
    ]
}

fn judge(status: &str, error: &Value, words: &[&str], asked: &Value) {
    let text = error["error"].as_str().unwrap_or_default();
    for word in words {
        assert!(
            text.contains(word),
            "{status}: {asked}: no {word:?} in {error}"
        );
    }
    assert_eq!(error["code"], "bad_request", "{asked}: {error}");
}

#[test]
fn over_http_it_is_a_400_that_says_what_is_expected() {
    let engine = Hand::start();
    let setup = Setup::new().plugin("index", "prefix-index", CALM);
    let daemon = engine.source(setup, "e").start();
    let post = |path: &str, body: &str| -> (u16, Value) {
        let sent = ureq::post(format!("{}{path}", daemon.http))
            .config()
            .http_status_as_error(false)
            .build()
            .send(body);
        let mut reply = sent.unwrap();
        let text = reply.body_mut().read_to_string().unwrap();
        (
            reply.status().as_u16(),
            serde_json::from_str(&text).unwrap(),
        )
    };
    for (asked, words) in wrong() {
        let (status, error) = post("/query", &asked.to_string());
        assert_eq!(status, 400, "{asked}: {error}");
        judge("http", &error, words, &asked);
    }
    let hashes = json!({"block_hashes": [1, "x"], "model_name": "m"});
    let register = json!({"instance_id": "x", "endpoint": 5, "model_name": "m"});
    let nowhere = json!({"instance_id": "x", "endpoint": "host", "model_name": "m"});
    for (path, asked, words) in [
        (
            "/query_by_hash",
            hashes,
            ["block_hashes[1]", "expected a 64-bit"],
        ),
        ("/register", register, ["endpoint", "expected a string"]),
        ("/register", nowhere, ["host", "tcp://"]),
        (
            "/unregister",
            json!({"instance_id": ""}),
            ["instance_id", "expected a string"],
        ),
    ] {
        let (status, error) = post(path, &asked.to_string());
        assert_eq!(status, 400, "{path}: {error}");
        judge(path, &error, &words, &asked);
    }
    let (status, error) = post("/query", "{\"token_ids\": [1,");
    assert_eq!(status, 400, "{error}");
    let (status, error) = post("/query", &"[".repeat(100_000));
    assert_eq!(status, 400, "{error}");
    let (status, error) = post("/nowhere", "{}");
    assert_eq!((status, &error["code"]), (404, &json!("not_found")));
}

#[test]
fn over_zeromq_it_is_a_reply_that_says_what_is_expected() {
    let engine = Hand::start();
    let setup = Setup::new().plugin("index", "prefix-index", CALM);
    let daemon = engine.source(setup, "e").start();
    let socket = zmq::Context::new().socket(zmq::DEALER).unwrap();
    socket.set_rcvtimeo(10_000).unwrap();
    socket.connect(&daemon.zmq).unwrap();
    let ask = |body: &[u8]| -> Value {
        socket.send_multipart([b"", body], 0).unwrap();
        let reply = socket.recv_multipart(0).unwrap();
        assert_eq!((reply.len(), reply[0].len()), (2, 0));
        serde_json::from_slice(&reply[1]).unwrap()
    };
    let mut cases = wrong();
    cases.push((
        json!({"op": "ask", "token_ids": [1], "model_name": "m"}),
        &["op", "expected one of"],
    ));
    for (number, (mut asked, words)) in cases.into_iter().enumerate() {
        let id = match &mut asked {
            Value::Object(fields) => {
                fields.insert("id".into(), number.into());
                number.into()
            }
            _ => Value::Null,
        };
        let error = ask(asked.to_string().as_bytes());
        judge("zmq", &error, words, &asked);
        assert_eq!(error["id"], id, "{asked}");
    }
    // Where the body is cannot be told: counted, and said so.
    for frames in [
        [b"no delimiter".as_slice(), b"here"].as_slice(),
        &[b"", b"two", b"bodies"],
    ] {
        socket.send_multipart(frames, 0).unwrap();
        let reply = socket.recv_multipart(0).unwrap();
        let error: Value = serde_json::from_slice(reply.last().unwrap()).unwrap();
        judge("zmq", &error, &["delimiter"], &Value::Null);
    }
    let fine = ask(br#"{"id": "z", "token_ids": [1], "model_name": "m"}"#);
    assert_eq!(fine["id"], "z", "{fine}");
    assert!(fine["scores"].is_object(), "{fine}");
    let malformed = series(&daemon, "penstock_query_lost_total", &["\"malformed\""]);
    assert_eq!(malformed, 2.0);
}
