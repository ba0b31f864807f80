use super::*;
use std::collections::BTreeSet;

const ANY_PORT: &str = r#"{"kind":"zmq-pub","endpoint":"tcp://127.0.0.1:*"}"#;

#[test]
fn messages_arrive_in_order_with_their_own_sequence() {
    let ctx = zmq::Context::new();
    let sink = open(&ctx, ANY_PORT);
    let status = sink.status();
    assert!(!status.endpoint.ends_with('*'), "{}", status.endpoint);

    publish(&sink, "kv@a", "early", 7).unwrap();
    wait_for(&sink, "counted", |s| s.no_subscriber == 1);
    let reader = sub(&ctx, &status.endpoint, "kv@");
    wait_for(&sink, "subscribed", |s| s.subscriptions == 1);
    for i in 0..2_000 {
        publish(&sink, "kv@a", &format!("payload {i}"), i).unwrap();
    }
    for i in 0..2_000 {
        let message = frames(&reader);
        assert_eq!(message.len(), 3, "engines send three frames");
        assert_eq!(message[0], b"kv@a");
        assert_eq!(number(&message[1]), i + 1, "the unheard one has number 0");
        assert_eq!(message[2], format!("payload {i}").as_bytes());
    }
    let status = wait_for(&sink, "empty", |s| s.queued == 0);
    assert_eq!((status.sent, status.no_subscriber), (2_000, 1));
    assert_eq!(status.queued_bytes, 0);

    drop(reader);
    wait_for(&sink, "unsubscribed", |s| s.subscriptions == 0);
}

#[test]
fn positions_are_a_fourth_frame_when_asked_for() {
    let ctx = zmq::Context::new();
    let sink = open(
        &ctx,
        r#"{"kind":"zmq-pub","endpoint":"inproc://positions","positions":true}"#,
    );
    let reader = sub(&ctx, "inproc://positions", "");
    wait_for(&sink, "subscribed", |s| s.subscriptions == 1);
    publish(&sink, "t", "p", 300).unwrap();
    let none = sink
        .publisher()
        .publish(Bytes::new(), Bytes::new(), None, at(5));
    assert_eq!(none, Ok(()));
    let message = frames(&reader);
    assert_eq!(message[3], b"\x93\xa6vllm-0\x03\xcd\x01\x2c");
    let message = frames(&reader);
    assert_eq!(message[3], b"\x93\xc0\x03\x05");
}

#[test]
fn replay_answers_in_either_framing() {
    for (framing, length) in [("old", 3), ("new", 4)] {
        let ctx = zmq::Context::new();
        let text = format!(
            r#"{{"kind":"zmq-pub","endpoint":"tcp://127.0.0.1:*","replay":"tcp://127.0.0.1:*",
               "replay_framing":"{framing}","replay_batches":6,"positions":true}}"#
        );
        let sink = open(&ctx, &text);
        for i in 0..10 {
            publish(&sink, "kv@a", &format!("payload {i}"), i).unwrap();
        }
        let status = wait_for(&sink, "all unheard", |s| s.no_subscriber == 10);
        let endpoint = status.replay_endpoint.unwrap();
        assert!(!endpoint.ends_with('*'), "{endpoint}");
        for (start, first) in [(7, 7), (0, 4), (10, 10)] {
            let got = replay(&ctx, &endpoint, start);
            assert_eq!(got.len(), 10 - first, "from {start}");
            for (message, i) in got.iter().zip(first as u64..) {
                assert_eq!(message.len(), length, "{framing}");
                assert!(message[0].is_empty());
                if framing == "new" {
                    assert_eq!(message[1], b"kv@a");
                }
                assert_eq!(number(&message[length - 2]), i);
                assert_eq!(message[length - 1], format!("payload {i}").as_bytes());
            }
        }
        wait_for(&sink, "three replays", |s| s.replays == 3);
    }
}

#[test]
fn what_never_came_in_leaves_its_number_out() {
    let ctx = zmq::Context::new();
    let sink = open(
        &ctx,
        r#"{"kind":"zmq-pub","endpoint":"inproc://holes","max_message_bytes":8,
            "replay":"inproc://holes-replay"}"#,
    );
    let reader = sub(&ctx, "inproc://holes", "");
    wait_for(&sink, "subscribed", |s| s.subscriptions == 1);
    publish(&sink, "t", "a", 0).unwrap();
    let large = publish(&sink, "t", "much too large", 1);
    assert_eq!(large, Err(PublishError::TooLarge));
    sink.publisher().skip().unwrap();
    publish(&sink, "t", "b", 2).unwrap();
    let numbers = [0; 2].map(|_| number(&frames(&reader)[1]));
    assert_eq!(numbers, [0, 3]);
    let replayed = replay(&ctx, "inproc://holes-replay", 1);
    assert_eq!(replayed.len(), 1, "nobody can fill it");
    assert_eq!(number(&replayed[0][2]), 3);
    assert_eq!(sink.shutdown(soon(1_000)).unsent_at_exit, 0);
}

/// A subscriber of `inproc` with room for one message on either side.
fn stuck(ctx: &zmq::Context, endpoint: &str, topic: &str) -> zmq::Socket {
    let socket = client(ctx, zmq::SUB);
    socket.set_rcvhwm(1).unwrap();
    socket.set_subscribe(topic.as_bytes()).unwrap();
    socket.connect(endpoint).unwrap();
    socket
}

#[test]
fn no_subscriber_and_a_full_pipe_are_counted_apart_and_the_gap_can_be_filled() {
    let ctx = zmq::Context::new();
    let sink = open(
        &ctx,
        r#"{"kind":"zmq-pub","endpoint":"inproc://full","hwm":1,"full_wait_ms":30,
            "replay":"inproc://full-replay"}"#,
    );
    let slow = stuck(&ctx, "inproc://full", "slow");
    wait_for(&sink, "subscribed", |s| s.subscriptions == 1);
    for i in 0..3 {
        publish(&sink, "nobody", "-", i).unwrap();
    }
    for i in 0..10 {
        publish(&sink, "slow", &format!("payload {i}"), i).unwrap();
    }
    let status = wait_for(&sink, "done with all", |s| s.queued == 0);
    assert_eq!(status.no_subscriber, 3);
    assert_eq!(status.sent, 2, "one place on each side");
    assert_eq!(status.dropped_full_pipe, 8);
    assert_eq!(status.dropped_full_queue, 0);

    // The reader comes back, sees the gap, and fills it from replay.
    let mut got = BTreeSet::new();
    for _ in 0..2 {
        got.insert(number(&frames(&slow)[1]));
    }
    assert_eq!(got, BTreeSet::from([3, 4]));
    publish(&sink, "slow", "after", 0).unwrap();
    let message = frames(&slow);
    assert_eq!((number(&message[1]), &message[2][..]), (13, &b"after"[..]));
    for message in replay(&ctx, "inproc://full-replay", 5) {
        got.insert(number(&message[2]));
    }
    got.insert(13);
    assert_eq!(got, (3..=13).collect());
}

#[test]
fn a_stuck_subscriber_holds_other_topics_once_not_for_each_message() {
    let ctx = zmq::Context::new();
    let sink = open(
        &ctx,
        r#"{"kind":"zmq-pub","endpoint":"inproc://stuck","hwm":1000,"full_wait_ms":300}"#,
    );
    let _stuck = stuck(&ctx, "inproc://stuck", "a");
    let other = sub(&ctx, "inproc://stuck", "b");
    wait_for(&sink, "subscribed", |s| s.subscriptions == 2);
    for i in 0..1_001 {
        publish(&sink, "a", "fills the pipe", i).unwrap();
    }
    let begun = Instant::now();
    for i in 0..100 {
        publish(&sink, "a", "for the stuck one", i).unwrap();
        publish(&sink, "b", "for the other", i).unwrap();
    }
    for _ in 0..100 {
        assert_eq!(frames(&other)[0], b"b");
    }
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(15),
        "30 s if each waited: {took:?}"
    );
    let status = wait_for(&sink, "done with all", |s| s.queued == 0);
    assert_eq!((status.sent, status.dropped_full_pipe), (1_101, 100));
}

#[test]
fn a_full_pipe_that_drains_in_time_loses_nothing() {
    let ctx = zmq::Context::new();
    let sink = open(
        &ctx,
        r#"{"kind":"zmq-pub","endpoint":"inproc://drains","hwm":1,"full_wait_ms":60000}"#,
    );
    let slow = stuck(&ctx, "inproc://drains", "");
    wait_for(&sink, "subscribed", |s| s.subscriptions == 1);
    for i in 0..200 {
        publish(&sink, "t", &"x".repeat(5_000), i).unwrap();
    }
    wait_for(&sink, "held up", |s| s.sent == 2 && s.queued > 0);
    for i in 0..200 {
        assert_eq!(number(&frames(&slow)[1]), i);
    }
    let status = wait_for(&sink, "empty", |s| s.queued == 0);
    assert_eq!((status.sent, status.dropped_full_pipe), (200, 0));
}

#[test]
fn over_tcp_too_what_is_counted_as_sent_arrives() {
    let ctx = zmq::Context::new();
    let sink = open(
        &ctx,
        r#"{"kind":"zmq-pub","endpoint":"tcp://127.0.0.1:*","hwm":1,"full_wait_ms":20}"#,
    );
    let slow = stuck(&ctx, &sink.status().endpoint, "");
    wait_for(&sink, "subscribed", |s| s.subscriptions == 1);
    let payload = "x".repeat(1 << 20);
    let until = soon(20_000);
    let mut published = 0;
    // The system's own buffers take some.
    while sink.status().dropped_full_pipe < 3 {
        assert!(Instant::now() < until, "never full");
        published += u64::from(publish(&sink, "t", &payload, 0).is_ok());
    }
    let status = wait_for(&sink, "empty", |s| s.queued == 0);
    assert_eq!(status.sent + status.dropped_full_pipe, published);
    let mut last = None;
    for _ in 0..status.sent {
        let message = frames(&slow);
        assert_eq!(message[2].len(), payload.len());
        assert!(last < Some(number(&message[1])));
        last = Some(number(&message[1]));
    }
    // Room may be told of a little later than it is there.
    let mut tries = published;
    loop {
        assert!(Instant::now() < until, "never room again");
        let sent = sink.status().sent;
        publish(&sink, "t", "end", 0).unwrap();
        if wait_for(&sink, "empty", |s| s.queued == 0).sent > sent {
            break;
        }
        tries += 1;
    }
    let message = frames(&slow);
    assert_eq!((number(&message[1]), &message[2][..]), (tries, &b"end"[..]));
}

#[test]
fn the_next_sink_gets_the_endpoint() {
    let ctx = zmq::Context::new();
    let sink = open(
        &ctx,
        r#"{"kind":"zmq-pub","endpoint":"tcp://127.0.0.1:*","replay":"tcp://127.0.0.1:*"}"#,
    );
    let was = sink.shutdown(soon(1_000));
    let (endpoint, replays) = (was.endpoint, was.replay_endpoint.unwrap());
    let text = format!(r#"{{"kind":"zmq-pub","endpoint":"{endpoint}","replay":"{replays}"}}"#);
    let status = open(&ctx, &text).status();
    assert_eq!(
        (status.endpoint, status.replay_endpoint),
        (endpoint, Some(replays))
    );
}

#[test]
fn connecting_to_a_subscriber_that_binds() {
    let ctx = zmq::Context::new();
    let reader = client(&ctx, zmq::SUB);
    reader.set_subscribe(b"").unwrap();
    reader.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = reader.get_last_endpoint().unwrap().unwrap();
    let sink = open(
        &ctx,
        &format!(r#"{{"kind":"zmq-pub","mode":"connect","endpoint":"{endpoint}"}}"#),
    );
    wait_for(&sink, "subscribed", |s| {
        // A SUB greets new connections within its own calls only.
        reader.poll(zmq::POLLIN, 0).unwrap();
        s.subscriptions == 1
    });
    publish(&sink, "t", "p", 0).unwrap();
    assert_eq!(frames(&reader)[2], b"p");
}

#[test]
fn shutdown_drains_what_is_queued() {
    let ctx = zmq::Context::new();
    let sink = open(&ctx, ANY_PORT);
    let reader = sub(&ctx, &sink.status().endpoint, "");
    wait_for(&sink, "subscribed", |s| s.subscriptions == 1);
    let publisher = sink.publisher();
    for i in 0..5_000 {
        publish(&sink, "t", "p", i).unwrap();
    }
    let status = sink.shutdown(soon(10_000));
    assert_eq!((status.sent, status.unsent_at_exit), (5_000, 0));
    assert!(!status.running);
    for i in 0..5_000 {
        assert_eq!(number(&frames(&reader)[1]), i, "linger delivers it");
    }
    let late = publisher.publish(Bytes::new(), Bytes::new(), None, at(0));
    assert_eq!(late, Err(PublishError::Closed));
}

#[test]
fn a_deadline_ends_a_shutdown_behind_a_full_pipe() {
    let ctx = zmq::Context::new();
    let sink = open(
        &ctx,
        r#"{"kind":"zmq-pub","endpoint":"inproc://late","hwm":1,"full_wait_ms":60000}"#,
    );
    let _stuck = stuck(&ctx, "inproc://late", "");
    wait_for(&sink, "subscribed", |s| s.subscriptions == 1);
    for i in 0..100 {
        publish(&sink, "t", "p", i).unwrap();
    }
    wait_for(&sink, "held up", |s| s.sent == 2);
    let begun = Instant::now();
    let status = sink.shutdown(soon(100));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!((status.sent, status.unsent_at_exit), (2, 98));
    assert_eq!(status.queued, 0);
}

#[test]
fn hostile_clients_are_survived() {
    let ctx = zmq::Context::new();
    let sink = open(
        &ctx,
        r#"{"kind":"zmq-pub","endpoint":"tcp://127.0.0.1:*","replay":"tcp://127.0.0.1:*"}"#,
    );
    let status = sink.status();
    let dealer = client(&ctx, zmq::DEALER);
    dealer.connect(&status.replay_endpoint.unwrap()).unwrap();
    for bad in [&b""[..], b"x", &[0; 9], &[0xff; 7]] {
        dealer.send_multipart([&b""[..], bad], 0).unwrap();
        dealer.send(bad, 0).unwrap();
    }
    // An XSUB may say anything: two frames, and a cancel never asked for.
    let talker = client(&ctx, zmq::XSUB);
    talker.connect(&status.endpoint).unwrap();
    let reader = sub(&ctx, &status.endpoint, "t");
    wait_for(&sink, "subscribed", |s| s.subscriptions == 1);
    talker.send_multipart([&b"\x07a"[..], b"\x01b"], 0).unwrap();
    talker.send(&b"\x00t"[..], 0).unwrap();
    talker.send(&b"\x01other"[..], 0).unwrap();
    wait_for(&sink, "heard", |s| s.subscriptions == 3);
    for i in 0..100 {
        publish(&sink, "t", "p", i).unwrap();
    }
    for i in 0..100 {
        assert_eq!(number(&frames(&reader)[1]), i);
    }
    assert!(sink.status().running);
    assert_eq!(
        replay(&ctx, &sink.status().replay_endpoint.unwrap(), 98).len(),
        2
    );
}
