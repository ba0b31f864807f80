//! The plugin that answers which prefixes are used again and again.

use crate::rig::{CALM, Hand, batch, plugin_when, request, series, stored};
use penstock_peer::event::Event;
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup, drop_plugin};
use penstock_testkit::{plugin_file, wait};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The system prompt of all requests: two blocks.
const SYSTEM: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// An engine and what it holds: hashes are its own, not other engines'.
struct Engine {
    hand: Hand,
    hashes: HashMap<Vec<u32>, u64>,
    first: u64,
}

impl Engine {
    fn start(first: u64) -> Self {
        Self {
            hand: Hand::start(),
            hashes: HashMap::new(),
            first,
        }
    }

    /// Serves a prompt of whole blocks, as an engine with a cache does: it stores what
    /// it does not hold, below what it holds.
    fn serve(&mut self, prompt: &[u32]) -> u64 {
        let (mut parent, mut fresh) = (None, Vec::new());
        for end in (4..=prompt.len()).step_by(4) {
            let next = self.first + self.hashes.len() as u64;
            match self.hashes.get(&prompt[..end]) {
                Some(hash) => parent = Some(*hash),
                None => {
                    self.hashes.insert(prompt[..end].to_vec(), next);
                    fresh.push(next);
                }
            }
        }
        let mut event = stored(&prompt[prompt.len() - 4 * fresh.len()..], &fresh);
        if let Event::Stored(stored) = &mut event {
            stored.parent = parent;
        }
        self.hand.publish(batch(&[event]))
    }
}

fn ask(daemon: &Daemon, body: &str) -> Vec<Value> {
    let answer: Value = serde_json::from_str(&request(daemon, "hot", body).unwrap()).unwrap();
    answer["prefixes"].as_array().unwrap().clone()
}

fn prompt(end: u32) -> Vec<u32> {
    [&SYSTEM[..], &[end; 4]].concat()
}

#[test]
fn shared_prefixes_are_found_across_engines_builds_and_time() {
    let (mut a, mut b) = (Engine::start(100), Engine::start(900));
    let setup = Setup::new().plugin("hot", "hot-prefixes", CALM);
    let setup = b.hand.source(a.hand.source(setup, "a"), "b");
    let daemon = setup.start();
    let mut last = (0, 0);
    for end in 20..30 {
        last = (a.serve(&prompt(end)), b.serve(&prompt(end)));
    }
    b.serve(&[30; 4]);
    last.1 += 1;
    daemon.wait_for("a", 0, last.0);
    daemon.wait_for("b", 0, last.1);
    let first = &ask(&daemon, "")[0];
    assert_eq!((&first["blocks"], &first["tokens"]), (&json!(2), &json!(8)));
    assert_eq!(first["sources"], json!({"a": 9, "b": 9}), "{first}");
    assert_eq!((&first["hits"], &first["model"]), (&json!(18), &json!("m")));
    assert_eq!(ask(&daemon, "{\"model\": \"other\"}").len(), 0);
    let error = request(&daemon, "hot", "{\"top\": -1}").unwrap_err();
    assert!(error.contains("body: top: "), "{error}");
    wait::until("its metrics", PATIENCE, || {
        let hits = series(&daemon, "penstock_plugin_custom_hits", &["plugin=\"hot\""]);
        (hits == 18.0).then_some(())
    });

    // The next set-up takes over what this one counted, and halves it each second.
    let toml = format!("{CALM}[config]\nhalf_life_s = 2\n");
    let home = daemon.home.path();
    drop_plugin(home, "hot", &plugin_file("hot-prefixes"), Some(&toml));
    plugin_when(&daemon, "hot", "its new config", |p| p.generation == 2);
    let takes = daemon.process.output().matches("state taken over").count();
    assert_eq!(takes, 1, "by its state, not by replay");
    a.serve(&prompt(30));
    wait::until("a half of it and one", PATIENCE, || {
        let hits = ask(&daemon, "").first()?["hits"].as_u64()?;
        (1..18).contains(&hits).then_some(())
    });
    wait::until("nothing", PATIENCE, || {
        ask(&daemon, "").is_empty().then_some(())
    });
}
