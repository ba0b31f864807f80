use super::*;
use crate::SinkError;

#[test]
fn what_cannot_be_opened_is_named() {
    let ctx = zmq::Context::new();
    let taken = client(&ctx, zmq::PULL);
    taken.bind("tcp://127.0.0.1:*").unwrap();
    let taken = taken.get_last_endpoint().unwrap().unwrap();
    let try_open = |text: &str| Sink::open("out", &config(text), &ctx).unwrap_err();

    for text in [
        format!(r#"{{"kind":"zmq-pub","endpoint":"{taken}"}}"#),
        format!(r#"{{"kind":"zmq-pub","endpoint":"tcp://127.0.0.1:*","replay":"{taken}"}}"#),
        format!(r#"{{"kind":"zmq-push","mode":"bind","endpoint":"{taken}"}}"#),
    ] {
        let error = try_open(&text);
        let SinkError::Bind {
            endpoint, source, ..
        } = &error
        else {
            panic!("{text}: {error}")
        };
        assert_eq!((endpoint, source), (&taken, &zmq::Error::EADDRINUSE));
        assert!(error.to_string().contains("sink `out`"), "{error}");
    }
    let error = try_open(r#"{"kind":"zmq-push","endpoint":"inproc://"}"#);
    assert!(matches!(&error, SinkError::Config { reason, .. } if reason.contains("endpoint")));
    let error = try_open(r#"{"kind":"file","path":"/no/such/dir/x.jsonl"}"#);
    assert!(matches!(&error, SinkError::File { path, .. } if path.ends_with("x.jsonl")));
    let error = try_open(r#"{"kind":"file","path":"/tmp"}"#);
    assert!(matches!(error, SinkError::File { .. }), "{error}");
}

#[test]
fn a_status_is_json() {
    let ctx = zmq::Context::new();
    let sink = open(&ctx, r#"{"kind":"zmq-pub","endpoint":"inproc://json"}"#);
    publish(&sink, "t", "p", 0).unwrap();
    let status = wait_for(&sink, "counted", |s| s.no_subscriber == 1);
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["name"], "out");
    assert_eq!(json["kind"], "zmq-pub");
    assert_eq!(json["endpoint"], "inproc://json");
    assert_eq!(json["replay_endpoint"], serde_json::Value::Null);
    assert_eq!(
        (&json["running"], &json["no_subscriber"]),
        (&true.into(), &1.into())
    );
}

#[test]
fn a_sink_outlives_its_publishers_and_keeps_its_sequence() {
    let ctx = zmq::Context::new();
    let sink = open(
        &ctx,
        r#"{"kind":"zmq-push","mode":"bind","endpoint":"inproc://swap"}"#,
    );
    let pull = client(&ctx, zmq::PULL);
    pull.connect("inproc://swap").unwrap();
    for i in 0..3 {
        // A publisher of its own each time, as for each instance of a plugin.
        publish(&sink, "t", "p", i).unwrap();
        assert_eq!(number(&frames(&pull)[1]), i);
    }
    assert_eq!(wait_for(&sink, "empty", |s| s.queued == 0).sent, 3);
}
