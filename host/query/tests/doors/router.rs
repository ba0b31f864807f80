use crate::room::{House, answer, query, until};
use penstock_event::By;
use penstock_query::client::{HttpClient, ZmqClient};
use penstock_query::{Code, QueryError};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const WAIT: i32 = 10_000;

fn socket(house: &House, kind: zmq::SocketType) -> zmq::Socket {
    let socket = zmq::Context::new().socket(kind).unwrap();
    socket.set_linger(0).unwrap();
    socket.set_rcvtimeo(WAIT).unwrap();
    socket.connect(&house.zmq()).unwrap();
    socket
}

fn asked(id: Value, model: &str) -> Value {
    json!({"id": id, "token_ids": [1, 2, 3], "model_name": model})
}

fn send(socket: &zmq::Socket, envelope: &[&[u8]], body: &Value) {
    let mut frames: Vec<Vec<u8>> = envelope.iter().map(|f| f.to_vec()).collect();
    frames.push(body.to_string().into_bytes());
    socket.send_multipart(frames, 0).unwrap();
}

fn receive(socket: &zmq::Socket) -> (Vec<Vec<u8>>, Value) {
    let mut frames = socket.recv_multipart(0).unwrap();
    let body = frames.pop().unwrap();
    (frames, serde_json::from_slice(&body).unwrap())
}

#[test]
fn a_req_client_is_served_in_both_encodings() {
    let house = House::open();
    let req = socket(&house, zmq::REQ);
    send(&req, &[], &asked(json!({"any": [1]}), "m"));
    let (_, reply) = receive(&req);
    assert_eq!(reply["id"], json!({"any": [1]}));
    assert_eq!(reply["scores"], json!({"a": {"0": 3}}));
    assert_eq!(reply["positions"]["a/dp0"]["sequence"], 9);

    let packed = rmp_serde::to_vec_named(&asked(json!("x"), "m")).unwrap();
    req.send(packed, 0).unwrap();
    let reply = req.recv_bytes(0).unwrap();
    let reply: Value = rmp_serde::from_slice(&reply).unwrap();
    assert_eq!(
        (&reply["id"], &reply["scores"]),
        (&json!("x"), &json!({"a": {"0": 3}}))
    );

    send(
        &req,
        &[],
        &json!({"op": "query_by_hash", "block_hashes": ["1", -1], "model_name": "m"}),
    );
    let (_, reply) = receive(&req);
    assert_eq!(
        (&reply["id"], &reply["scores"]["a"]["0"]),
        (&Value::Null, &json!(200))
    );

    send(&req, &[], &json!({"id": 1, "op": "health"}));
    let (_, reply) = receive(&req);
    assert_eq!(
        (&reply["ok"], &reply["ready"]),
        (&json!(true), &json!(false))
    );
}

#[test]
fn a_dealer_has_many_in_flight_and_replies_come_out_of_order() {
    let house = House::open();
    let dealer = socket(&house, zmq::DEALER);
    for id in 0..20 {
        send(&dealer, &[b""], &asked(json!(id), "kept"));
    }
    until("twenty lookups", || house.room.kept() == 20);
    // A quick one overtakes them all.
    send(&dealer, &[b""], &asked(json!("quick"), "m"));
    assert_eq!(receive(&dealer).1["id"], "quick");
    let kept = std::mem::take(&mut *house.room.kept.lock().unwrap());
    for (n, lookup) in kept.into_iter().enumerate().rev() {
        (lookup.reply)(Ok(answer(n as u32)));
    }
    for id in (0..20).rev() {
        let (envelope, reply) = receive(&dealer);
        assert_eq!(envelope, [b""]);
        assert_eq!(reply["id"], id);
        assert_eq!(
            reply["scores"]["a"]["0"], id,
            "the reply is that of its request"
        );
    }
}

#[test]
fn clients_behind_a_proxy_get_their_own_replies() {
    let house = House::open();
    let context = zmq::Context::new();
    let front = context.socket(zmq::ROUTER).unwrap();
    front.bind("inproc://front").unwrap();
    let back = context.socket(zmq::DEALER).unwrap();
    back.connect(&house.zmq()).unwrap();
    let steer = context.socket(zmq::PAIR).unwrap();
    steer.bind("inproc://steer").unwrap();
    let stop = context.socket(zmq::PAIR).unwrap();
    stop.connect("inproc://steer").unwrap();
    let proxy = std::thread::spawn(move || {
        let (mut front, mut back, mut steer) = (front, back, steer);
        let _ = zmq::proxy_steerable(&mut front, &mut back, &mut steer);
    });
    let clients: Vec<zmq::Socket> = (0..8)
        .map(|n| {
            let kind = if n % 2 == 0 { zmq::REQ } else { zmq::DEALER };
            let client = context.socket(kind).unwrap();
            client.set_rcvtimeo(WAIT).unwrap();
            client.connect("inproc://front").unwrap();
            client
        })
        .collect();
    for (n, client) in clients.iter().enumerate() {
        // A DEALER may put frames of its own before the delimiter.
        let envelope: &[&[u8]] = if n % 2 == 0 { &[] } else { &[b"mine", b""] };
        send(client, envelope, &asked(json!(n), "m"));
    }
    for (n, client) in clients.iter().enumerate() {
        let (envelope, reply) = receive(client);
        let wanted: &[&[u8]] = if n % 2 == 0 { &[] } else { &[b"mine", b""] };
        assert_eq!(envelope, wanted);
        assert_eq!(reply["id"], n);
    }
    stop.send("TERMINATE", 0).unwrap();
    proxy.join().unwrap();
}

#[test]
fn mistakes_are_answered_with_the_id() {
    let house = House::open();
    let dealer = socket(&house, zmq::DEALER);
    let table = [
        (
            json!({"id": 1, "token_ids": [1, "x"], "model_name": "m"}),
            "bad_request",
            "token_ids[1]: ",
        ),
        (json!({"id": 2, "op": "dump"}), "bad_request", "op: "),
        (
            json!({"id": 3, "token_ids": [1]}),
            "bad_request",
            "model_name: missing",
        ),
        (asked(json!(4), "other"), "no_model", "known"),
        (asked(json!(5), "busy"), "busy", "busy"),
        (asked(json!(6), "broken"), "failed", "trap"),
        (asked(json!(7), "dropped"), "failed", "went away"),
        (
            json!({"id": 8, "token_ids": [], "model_name": "m", "plugin": "x"}),
            "no_plugin",
            "\"x\"",
        ),
    ];
    for (body, code, says) in &table {
        send(&dealer, &[b""], body);
        let (_, reply) = receive(&dealer);
        assert_eq!((&reply["id"], &reply["code"]), (&body["id"], &json!(code)));
        assert!(reply["error"].as_str().unwrap().contains(says), "{reply}");
        // The same in msgpack.
        let packed = rmp_serde::to_vec_named(body).unwrap();
        dealer.send_multipart([Vec::new(), packed], 0).unwrap();
        let reply = dealer.recv_multipart(0).unwrap().pop().unwrap();
        let reply: Value = rmp_serde::from_slice(&reply).unwrap();
        assert_eq!((&reply["id"], &reply["code"]), (&body["id"], &json!(code)));
    }
    let frames: [&[&[u8]]; 4] = [&[b"", b"hello"], &[b"", b""], &[b"", b"{}", b"{}"], &[b""]];
    for message in frames {
        dealer.send_multipart(message.iter().copied(), 0).unwrap();
        let (envelope, reply) = receive(&dealer);
        assert_eq!(
            (envelope, &reply["code"]),
            (vec![Vec::new()], &json!("bad_request"))
        );
    }
    // Without a delimiter, the reply has none either.
    send(&dealer, &[], &asked(json!("raw"), "m"));
    let (envelope, reply) = receive(&dealer);
    assert_eq!((envelope.len(), &reply["id"]), (0, &json!("raw")));
    assert!(reply["error"].as_str().unwrap().contains("delimiter"));
    // Too many frames: counted; the door lives.
    let before = house.total("malformed");
    dealer.send_multipart(vec!["x"; 100], 0).unwrap();
    send(&dealer, &[b""], &asked(json!("after"), "m"));
    assert_eq!(receive(&dealer).1["id"], "after");
    assert_eq!(house.total("malformed"), before + 1);
}

#[test]
fn a_late_plugin_is_answered_for_and_holds_its_place() {
    let house = House::with(|c| {
        c.max_in_flight = 1;
        c.max_in_flight_per_client = 1;
    });
    let dealer = socket(&house, zmq::DEALER);
    let mut late = asked(json!("late"), "kept");
    late["deadline_ms"] = json!(20);
    send(&dealer, &[b""], &late);
    assert_eq!(receive(&dealer).1["code"], "deadline");
    // Its lookup still stands in the plugin's queue.
    send(&dealer, &[b""], &asked(json!("next"), "m"));
    assert_eq!(receive(&dealer).1["code"], "busy");
    let kept = house.room.kept.lock().unwrap().pop().unwrap();
    assert_eq!(kept.query.deadline, Duration::from_millis(20));
    (kept.reply)(Ok(answer(1)));
    until("the late answer", || house.total("late") == 1);
    send(&dealer, &[b""], &asked(json!("now"), "m"));
    let (_, reply) = receive(&dealer);
    assert_eq!((&reply["id"], reply.get("code")), (&json!("now"), None));
}

#[test]
fn one_client_cannot_take_every_place() {
    let house = House::with(|c| {
        c.max_in_flight = 8;
        c.max_in_flight_per_client = 2;
    });
    let greedy = socket(&house, zmq::DEALER);
    for id in 0..5 {
        send(&greedy, &[b""], &asked(json!(id), "kept"));
    }
    let busy: BTreeSet<u64> = (0..3)
        .map(|_| receive(&greedy).1)
        .map(|reply| {
            assert_eq!(reply["code"], "busy");
            reply["id"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(busy, BTreeSet::from([2, 3, 4]));
    let modest = socket(&house, zmq::REQ);
    send(&modest, &[], &asked(json!("modest"), "m"));
    assert_eq!(receive(&modest).1["scores"]["a"]["0"], 3);
}

#[test]
fn a_reply_to_a_client_that_has_gone_is_counted() {
    let house = House::with(|c| {
        c.max_in_flight = 4_096;
        c.max_in_flight_per_client = 4_096;
    });
    let gone = socket(&house, zmq::DEALER);
    for id in 0..500 {
        send(&gone, &[b""], &asked(json!(id), "kept"));
    }
    until("the lookups", || house.room.kept() == 500);
    drop(gone);
    // The ROUTER hears of the end when its I/O thread does: answer until then.
    let probe = socket(&house, zmq::REQ);
    until("the count", || {
        if let Some(kept) = house.room.kept.lock().unwrap().pop() {
            (kept.reply)(Ok(answer(1)));
        }
        send(&probe, &[], &asked(json!(2), "m"));
        assert_eq!(receive(&probe).1["id"], 2);
        house.total("undeliverable") > 0
    });
}

#[test]
fn a_client_that_does_not_read_loses_its_replies_and_no_one_elses() {
    let house = House::with(|c| c.zmq_hwm = 1);
    let deaf = zmq::Context::new().socket(zmq::DEALER).unwrap();
    deaf.set_linger(0).unwrap();
    deaf.set_rcvhwm(1).unwrap();
    deaf.connect(&house.zmq()).unwrap();
    // Large ids fill the pipes soon.
    let id = "z".repeat(1 << 20);
    let other = socket(&house, zmq::REQ);
    until("an unread reply", || {
        deaf.send_multipart([Vec::new(), asked(json!(id), "m").to_string().into()], 0)
            .unwrap();
        send(&other, &[], &asked(json!(1), "m"));
        assert_eq!(receive(&other).1["id"], 1);
        house.total("unread") > 0
    });
}

#[test]
fn the_client_has_several_in_flight() {
    let house = House::open();
    let mut client = ZmqClient::connect(&house.zmq()).unwrap();
    assert_eq!(
        client
            .query(None, &query("m", &[1; 70_000]))
            .unwrap()
            .scores["a"]
            .len(),
        1
    );
    let mut waiting: BTreeSet<u64> = (1..=50)
        .map(|n| {
            client
                .send(Some("index"), &query("m", &vec![7; n]))
                .unwrap()
        })
        .collect();
    let first = *waiting.first().unwrap();
    while !waiting.is_empty() {
        let (id, result) = client.receive(Duration::from_secs(10)).unwrap();
        let tokens = result.unwrap().instances["a"].longest_matched;
        assert_eq!(u64::from(tokens), id - first + 1);
        assert!(waiting.remove(&id));
    }
    match client.query(None, &query("other", &[])) {
        Err(QueryError::Refused(e)) => assert_eq!(e.models, Some(vec!["m".to_owned()])),
        other => panic!("{other:?}"),
    }
    let mut hasty = query("kept", &[]);
    hasty.deadline = Duration::from_millis(10);
    match client.query(None, &hasty) {
        Err(QueryError::Refused(e)) => assert_eq!(e.code, Code::Deadline),
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_doors_answer_alike_at_once() {
    let house = House::open();
    std::thread::scope(|s| {
        let over_http = s.spawn(|| {
            let client = HttpClient::new(&house.url());
            (1..=100)
                .map(|n| client.query(None, &query("m", &vec![1; n])).unwrap())
                .collect::<Vec<_>>()
        });
        let over_zmq = s.spawn(|| {
            let mut client = ZmqClient::connect(&house.zmq()).unwrap();
            (1..=100)
                .map(|n| client.query(None, &query("m", &vec![1; n])).unwrap())
                .collect::<Vec<_>>()
        });
        let (over_http, over_zmq) = (over_http.join().unwrap(), over_zmq.join().unwrap());
        assert_eq!(over_http, over_zmq);
        assert_eq!(over_http[99].instances["a"].longest_matched, 100);
    });
    let mut by_hash = query("m", &[]);
    by_hash.by = By::TokenHashes([1, u64::MAX].into());
    let answer = penstock_query::client::zmq(&house.zmq(), None, &by_hash).unwrap();
    assert_eq!(
        answer,
        HttpClient::new(&house.url()).query(None, &by_hash).unwrap()
    );
}
