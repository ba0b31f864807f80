use super::*;

#[test]
fn push_to_pull_with_positions() {
    let ctx = zmq::Context::new();
    let pull = client(&ctx, zmq::PULL);
    pull.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = pull.get_last_endpoint().unwrap().unwrap();
    let sink = open(
        &ctx,
        &format!(r#"{{"kind":"zmq-push","endpoint":"{endpoint}"}}"#),
    );
    for i in 0..1_000 {
        publish(&sink, "t", &format!("payload {i}"), i).unwrap();
    }
    for i in 0..1_000 {
        let message = frames(&pull);
        assert_eq!(message.len(), 4);
        assert_eq!(message[0], b"t");
        assert_eq!(number(&message[1]), i);
        assert_eq!(message[2], format!("payload {i}").as_bytes());
        assert_eq!(message[3][..8], *b"\x93\xa6vllm-0");
    }
    assert_eq!(wait_for(&sink, "empty", |s| s.queued == 0).sent, 1_000);
}

#[test]
fn without_a_peer_the_queue_fills_up_and_publish_does_not_wait() {
    let ctx = zmq::Context::new();
    let sink = open(
        &ctx,
        r#"{"kind":"zmq-push","mode":"bind","endpoint":"inproc://nobody","queue_messages":5,
            "queue_bytes":1000,"max_message_bytes":500,"full_wait_ms":60000}"#,
    );
    for i in 0..5 {
        publish(&sink, "", "x", i).unwrap();
    }
    assert_eq!(publish(&sink, "", "x", 5), Err(PublishError::Full));
    let big = "x".repeat(501);
    assert_eq!(publish(&sink, "", &big, 6), Err(PublishError::TooLarge));
    let status = sink.status();
    assert_eq!((status.queued, status.queued_bytes), (5, 5));
    assert_eq!(
        (status.dropped_full_queue, status.dropped_too_large),
        (1, 1)
    );

    let pull = client(&ctx, zmq::PULL);
    pull.connect("inproc://nobody").unwrap();
    for i in 0..5 {
        assert_eq!(number(&frames(&pull)[1]), i, "they waited");
    }
    wait_for(&sink, "room", |s| s.queued == 0);
    publish(&sink, "", "x", 7).unwrap();
    let next = number(&frames(&pull)[1]);
    assert_eq!(next, 7, "the two refused left their numbers out");
}

#[test]
fn the_bytes_of_a_queue_are_bounded_too() {
    let ctx = zmq::Context::new();
    let sink = open(
        &ctx,
        r#"{"kind":"zmq-push","mode":"bind","endpoint":"inproc://bytes",
            "queue_bytes":1000,"max_message_bytes":500,"full_wait_ms":60000}"#,
    );
    publish(&sink, "0123456789", &"x".repeat(490), 0).unwrap();
    publish(&sink, "", &"x".repeat(499), 1).unwrap();
    assert_eq!(publish(&sink, "", "xx", 2), Err(PublishError::Full));
    publish(&sink, "", "x", 3).unwrap();
    assert_eq!(sink.status().queued_bytes, 1_000);
}

#[test]
fn a_message_waits_for_room_for_a_bounded_time() {
    let ctx = zmq::Context::new();
    let sink = open(
        &ctx,
        r#"{"kind":"zmq-push","mode":"bind","endpoint":"inproc://room","full_wait_ms":20}"#,
    );
    for i in 0..3 {
        publish(&sink, "", "x", i).unwrap();
    }
    // The last one is counted as dropped a moment before its place is free.
    let gone = |s: &SinkStatus| s.dropped_full_pipe == 3 && s.queued == 0;
    assert_eq!(wait_for(&sink, "dropped", gone).sent, 0);
    let pull = client(&ctx, zmq::PULL);
    pull.connect("inproc://room").unwrap();
    publish(&sink, "", "x", 3).unwrap();
    assert_eq!(number(&frames(&pull)[1]), 3, "the gap shows");
}

#[test]
fn what_nobody_took_is_counted_at_exit() {
    let ctx = zmq::Context::new();
    let text =
        r#"{"kind":"zmq-push","mode":"bind","endpoint":"inproc://exit","full_wait_ms":60000}"#;
    let sink = open(&ctx, text);
    for i in 0..10 {
        publish(&sink, "", "x", i).unwrap();
    }
    let begun = Instant::now();
    let status = sink.shutdown(soon(50));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!((status.sent, status.unsent_at_exit), (0, 10));
    // The endpoint is free again.
    let pull = client(&ctx, zmq::PULL);
    let until = soon(20_000);
    while let Err(e) = pull.bind("inproc://exit") {
        assert_eq!(e, zmq::Error::EADDRINUSE);
        assert!(Instant::now() < until, "never free");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn peers_that_come_and_go_see_whole_messages() {
    let ctx = zmq::Context::new();
    let sink = open(
        &ctx,
        r#"{"kind":"zmq-push","mode":"bind","endpoint":"tcp://127.0.0.1:*","full_wait_ms":60000}"#,
    );
    let endpoint = sink.status().endpoint;
    let mut published = 0;
    for _ in 0..20 {
        let pull = client(&ctx, zmq::PULL);
        pull.connect(&endpoint).unwrap();
        let until = soon(20_000);
        let mut got = 0;
        while got < 50 {
            assert!(Instant::now() < until, "nothing comes");
            // What went to the peer before is lost with it, so go on.
            if publish(&sink, "t", "payload", 0).is_ok() {
                published += 1;
            }
            if pull.poll(zmq::POLLIN, 1).unwrap() == 1 {
                let message = frames(&pull);
                assert_eq!(message.len(), 4, "{message:?}");
                assert_eq!(
                    (&message[0][..], &message[2][..]),
                    (&b"t"[..], &b"payload"[..])
                );
                got += 1;
            }
        }
    }
    let status = sink.shutdown(soon(2_000));
    assert_eq!(status.sent + status.unsent_at_exit, published);
}
