use super::*;
use crate::frames::{FramesReader, Message};
use crate::publisher::{Publisher, PublisherConfig};
use std::sync::Arc;

fn config(endpoint: &str, path: &std::path::Path) -> CaptureConfig {
    CaptureConfig {
        endpoint: endpoint.into(),
        side: Side::Auto,
        topics: vec![],
        path: path.to_owned(),
        hwm: 100_000,
        max_messages: None,
        max_bytes: None,
        idle: None,
        duration: Some(Duration::from_secs(20)),
    }
}

/// Captures while `publish` publishes; the file's messages and the summary.
fn captured(
    change: impl FnOnce(&mut CaptureConfig),
    publish: impl FnOnce(&mut Publisher, &AtomicBool),
) -> (Vec<Message>, CaptureSummary) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.frames");
    let context = zmq::Context::new();
    let open = PublisherConfig {
        topic: "t".into(),
        ..PublisherConfig::new("tcp://127.0.0.1:*")
    };
    let mut publisher = Publisher::open(&context, open).unwrap();
    let mut config = config(publisher.endpoint(), &path);
    change(&mut config);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread =
        std::thread::spawn(move || capture(&zmq::Context::new(), &config, &stopped, |_| {}));
    assert!(
        publisher
            .wait_subscribers(1, Duration::from_secs(10))
            .unwrap()
    );
    publish(&mut publisher, &stop);
    let summary = thread.join().unwrap().unwrap();
    let messages = FramesReader::open(&path).unwrap();
    (messages.collect::<Result<_>>().unwrap(), summary)
}

#[test]
fn a_capture_equals_what_was_published() {
    let payload = |n: u64| Bytes::from(vec![n as u8; 1 + n as usize * 7]);
    let (messages, summary) = captured(
        |config| config.max_messages = Some(500),
        |publisher, _| {
            for n in 0..500 {
                publisher.publish(payload(n)).unwrap();
            }
        },
    );
    assert_eq!(messages.len(), 500);
    for (n, message) in messages.iter().enumerate() {
        let got = batch(message).unwrap();
        assert_eq!((got.sequence, got.payload), (n as u64, payload(n as u64)));
        assert_eq!(got.topic, "t");
    }
    assert_eq!(summary.ended, Ended::Messages);
    assert_eq!((summary.gaps, summary.restarts), (0, 0));
}

#[test]
fn gaps_restarts_and_oddities_are_counted_and_kept() {
    let (messages, summary) = captured(
        |config| config.max_messages = Some(7),
        |publisher, _| {
            let topic = Bytes::from_static(b"t");
            for sequence in [0, 1, 5, 6, 0] {
                publisher
                    .publish_as(topic.clone(), sequence, Bytes::from_static(b"x"))
                    .unwrap();
            }
            publisher.send_frames(&[b"t"]).unwrap();
            publisher
                .publish_as(Bytes::from_static(b"u"), 9, Bytes::from_static(b"x"))
                .unwrap();
        },
    );
    assert_eq!(messages.len(), 7);
    assert_eq!(messages[5].len(), 1);
    assert_eq!((summary.gaps, summary.missing), (1, 3));
    assert_eq!((summary.restarts, summary.malformed), (1, 1));
    assert_eq!(summary.topics, 2);
}

#[test]
fn a_capture_ends_when_idle_or_stopped() {
    let (messages, summary) = captured(
        |config| config.idle = Some(Duration::from_secs(1)),
        |publisher, _| assert!(publisher.publish("x").unwrap().sent),
    );
    assert_eq!((messages.len(), summary.ended), (1, Ended::Idle));
    let (messages, summary) = captured(|_| {}, |_, stop| stop.store(true, Relaxed));
    assert_eq!((messages.len(), summary.ended), (0, Ended::Stopped));
}

/// A capture of what stands at an endpoint, until its connection was tried.
fn tried(endpoint: &str) -> Link {
    let dir = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let config = config(endpoint, &dir.path().join("out.frames"));
    let summary = capture(&zmq::Context::new(), &config, &stop, |now| {
        stop.store(now.link != Link::default(), Relaxed);
    });
    summary.unwrap().link
}

#[test]
fn who_is_at_the_other_end_is_known() {
    let context = zmq::Context::new();
    let at = |kind: zmq::SocketType| {
        let socket = context.socket(kind).unwrap();
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        (socket, endpoint)
    };
    let (_publisher, endpoint) = at(zmq::PUB);
    let link = tried(&endpoint);
    assert_eq!(link.answered, 1, "{link:?}");
    let (_replay, endpoint) = at(zmq::ROUTER);
    let link = tried(&endpoint);
    assert!(link.answered > 0 && link.connected == 0, "{link:?}");
}

#[test]
fn silence_from_the_start_is_idle_too() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there: the port was closed again.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", free.local_addr().unwrap());
    drop(free);
    let mut config = config(&endpoint, &dir.path().join("out.frames"));
    config.idle = Some(Duration::from_millis(200));
    let stop = AtomicBool::new(false);
    let summary = capture(&zmq::Context::new(), &config, &stop, |_| {}).unwrap();
    assert_eq!((summary.messages, summary.ended), (0, Ended::Idle));
    assert_eq!(summary.link, Link::default());
}
