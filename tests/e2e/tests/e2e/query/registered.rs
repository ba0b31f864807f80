//! Sources that come and go at run time.

use crate::rig::{CALM, Hand, batch, query, stored};
use penstock_event::By;
use penstock_query::Rank;
use penstock_query::client::HttpClient;
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use penstock_testkit::wait;
use serde_json::{Value, json};
use std::sync::Arc;

fn post(daemon: &Daemon, path: &str, body: &Value) -> (u16, Value) {
    let sent = ureq::post(format!("{}{path}", daemon.http))
        .config()
        .http_status_as_error(false)
        .build()
        .send_json(body);
    let mut reply = sent.unwrap();
    (
        reply.status().as_u16(),
        reply.body_mut().read_json().unwrap(),
    )
}

#[test]
fn registered_its_events_arrive_and_unregistered_its_blocks_go() {
    let daemon = Setup::new().plugin("index", "prefix-index", CALM).start();
    let (zero, one) = (Hand::start(), Hand::start());
    // As Dynamo's indexer is told: a number, a rank each.
    let register = |engine: &Hand, rank: u32| {
        json!({"instance_id": 7, "dp_rank": rank, "endpoint": engine.endpoint,
            "replay_endpoint": engine.replay, "model_name": "m", "block_size": 4})
    };
    for (engine, rank) in [(&zero, 0), (&one, 1)] {
        // Published before anybody listened: replay has it.
        engine.store(&[1, 2, 3, 4], &[1]);
        for _ in 0..2 {
            let (status, told) = post(&daemon, "/register", &register(engine, rank));
            assert_eq!(status, 201, "{told}");
        }
        engine.wait_subscribers(1);
    }
    let last = zero.publish(batch(&[stored(&[1, 2, 3, 4, 5, 6, 7, 8], &[1, 2])]));
    let client = HttpClient::new(&daemon.http);
    let question = query(By::Tokens(Arc::new([1, 2, 3, 4, 5, 6, 7, 8])));
    let answer = wait::until("both ranks", PATIENCE, || {
        let answer = client.query(None, &question).ok()?;
        let at = |name: &str| answer.positions.get(name).and_then(|p| p.sequence);
        let there = at("7/dp0") == Some(last) && at("7/dp1") == Some(0);
        there.then_some(answer)
    });
    let scores = &answer.scores["7"];
    assert_eq!((scores[&Rank(0)], scores[&Rank(1)]), (8, 4));
    let workers: Value = client.get("/workers").unwrap();
    assert_eq!(workers.as_array().unwrap().len(), 1, "{workers}");
    assert_eq!(workers[0]["endpoints"]["1"], one.endpoint.as_str());

    // Another endpoint under the same name would be another source.
    let (status, told) = post(
        &daemon,
        "/unregister",
        &json!({"instance_id": 7, "dp_rank": 0}),
    );
    assert_eq!((status, &told["removed"]), (200, &json!(1)), "{told}");
    let answer = wait::until("the end of one rank", PATIENCE, || {
        let answer = client.query(None, &question).unwrap();
        (!answer.positions.contains_key("7/dp0")).then_some(answer)
    });
    assert_eq!(answer.scores["7"].get(&Rank(0)), None);
    assert_eq!(answer.scores["7"][&Rank(1)], 4);
    let (status, _) = post(&daemon, "/unregister", &json!({"instance_id": "7"}));
    assert_eq!(status, 200);
    wait::until("the end of its blocks", PATIENCE, || {
        let blocks = daemon.metric("penstock_plugin_custom_blocks");
        (daemon.status().sources.is_empty() && blocks == 0.0).then_some(())
    });
    let (status, told) = post(&daemon, "/unregister", &json!({"instance_id": 7}));
    assert_eq!(
        (status, &told["code"]),
        (404, &json!("not_found")),
        "{told}"
    );
}

#[test]
fn what_the_config_says_wins() {
    let (fixed, other) = (Hand::start(), Hand::start());
    let setup = Setup::new().plugin("index", "prefix-index", CALM);
    let daemon = fixed.source(setup, "e").start();
    let body = json!({"instance_id": "e", "endpoint": other.endpoint, "model_name": "m"});
    let (status, told) = post(&daemon, "/register", &body);
    assert_eq!((status, &told["code"]), (409, &json!("conflict")), "{told}");
    let (status, told) = post(&daemon, "/unregister", &json!({"instance_id": "e"}));
    assert_eq!(status, 404, "{told}");
    let source = daemon.source("e").unwrap();
    assert_eq!(
        source.endpoints.as_slice(),
        std::slice::from_ref(&fixed.endpoint)
    );
}
