//! What stands behind the doors in these tests: lookups whose behaviour follows
//! the model's name, and a control with one plugin and two sources.

use penstock_event::{
    Answer, By, Epoch, Link, LookupError, Position, Query, Row, SourceId, SourcePosition,
};
use penstock_query::{
    Control, ControlError, Doors, DoorsConfig, Gate, Health, Lookups, PluginStatus, PositionStatus,
    Readiness, ReadyLatch, Register, Reloaded, Reply, SourceStatus, Status, Turn, Turned,
    Unregister,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

type Job = Box<dyn FnOnce() + Send>;

/// A lookup kept back until the test lets it go.
pub struct Kept {
    pub query: Query,
    pub reply: Reply<Answer>,
}

pub struct Room {
    /// A plugin's thread.
    plugin: Mutex<mpsc::Sender<Job>>,
    /// Lookups of the models `kept…`, in the order they came.
    pub kept: Mutex<Vec<Kept>>,
    pub asked: AtomicUsize,
    pub latch: ReadyLatch,
    pub health: Mutex<Health>,
    pub registered: Mutex<Vec<Register>>,
    pub unregistered: Mutex<Vec<Unregister>>,
}

pub struct House {
    pub room: Arc<Room>,
    pub doors: Option<Doors>,
    pub runtime: Runtime,
}

pub fn query(model: &str, tokens: &[u32]) -> Query {
    Query {
        model: model.into(),
        adapter: String::new(),
        salt: String::new(),
        by: By::Tokens(tokens.into()),
        deadline: Duration::from_secs(5),
        include_stale: false,
    }
}

/// The answer to `n` tokens: instance `a` holds all of them on rank 0.
pub fn answer(n: u32) -> Answer {
    Answer {
        rows: vec![Row {
            source: 1,
            rank: 0,
            blocks: n,
            tokens: n,
            gpu: n,
            ..Row::default()
        }],
        positions: vec![SourcePosition {
            source: SourceId(1),
            name: "a/dp0".into(),
            instance: "a".into(),
            position: Some(Position {
                epoch: Epoch(2),
                sequence: 9,
            }),
            complete: true,
            verified: false,
            link: Link::Live,
        }],
        unavailable: vec!["b".into()],
    }
}

/// Waits for something that must come; fails after ten seconds.
pub fn until(what: &str, mut come: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !come() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

// === impl Room ===

impl Room {
    fn new() -> Arc<Self> {
        let (plugin, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        Arc::new(Self {
            plugin: Mutex::new(plugin),
            kept: Mutex::default(),
            asked: AtomicUsize::new(0),
            latch: ReadyLatch::default(),
            health: Mutex::new(Health {
                ok: true,
                stuck: Vec::new(),
            }),
            registered: Mutex::default(),
            unregistered: Mutex::default(),
        })
    }

    fn later(&self, job: impl FnOnce() + Send + 'static) {
        self.plugin.lock().unwrap().send(Box::new(job)).unwrap();
    }

    pub fn kept(&self) -> usize {
        self.kept.lock().unwrap().len()
    }
}

impl Lookups for Room {
    fn ask(&self, plugin: Option<&str>, query: Query, reply: Reply<Answer>) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(name) = plugin.filter(|name| *name != "index") {
            return reply(Err(LookupError::NoPlugin(name.into())));
        }
        match query.model.as_str() {
            "m" => {
                let n = match &query.by {
                    By::Tokens(tokens) => tokens.len(),
                    By::TokenHashes(hashes) => 100 * hashes.len(),
                    By::EngineHashes(hashes) => 1_000 * hashes.len(),
                };
                self.later(move || reply(Ok(answer(n as u32))));
            }
            "busy" => reply(Err(LookupError::Busy)),
            "broken" => self.later(move || reply(Err(LookupError::Failed("trap".into())))),
            "dropped" => self.later(move || drop(reply)),
            model if model.starts_with("kept") => {
                self.kept.lock().unwrap().push(Kept { query, reply });
            }
            _ => reply(Err(LookupError::NoModel(vec!["m".into()]))),
        }
    }

    fn request(&self, plugin: &str, body: Vec<u8>, reply: Reply<Vec<u8>>) {
        match plugin {
            "index" => self.later(move || reply(Ok(body.into_iter().rev().collect()))),
            name => reply(Err(LookupError::NoPlugin(name.into()))),
        }
    }
}

impl Control for Room {
    fn status(&self) -> Status {
        Status {
            version: "0.1.0".into(),
            pid: std::process::id(),
            ready: self.ready(),
            health: self.health(),
            plugins: self.plugins(),
            sources: self.sources(),
            ..Status::default()
        }
    }

    fn plugins(&self) -> Vec<PluginStatus> {
        vec![PluginStatus {
            name: "index".into(),
            load_error: Some("not a component".into()),
            ..PluginStatus::default()
        }]
    }

    fn sources(&self) -> Vec<SourceStatus> {
        let source = |rank: u32| SourceStatus {
            name: format!("a/dp{rank}"),
            instance: "a".into(),
            rank: Some(rank),
            model: "m".into(),
            endpoints: vec![format!("tcp://127.0.0.1:{}", 5557 + rank)],
            link: "live".into(),
            position: Some(PositionStatus {
                epoch: 0,
                sequence: 4,
            }),
            totals: BTreeMap::from([("gaps".into(), 1)]),
            ..SourceStatus::default()
        };
        vec![source(0), source(1)]
    }

    fn register(&self, source: Register) -> Result<(), ControlError> {
        if source.endpoint.contains("taken") {
            return Err(ControlError::Conflict("that endpoint is taken".into()));
        }
        self.registered.lock().unwrap().push(source);
        Ok(())
    }

    fn unregister(&self, which: Unregister) -> Result<usize, ControlError> {
        if which.instance != "a" {
            return Err(ControlError::NotFound(format!(
                "no instance {:?}",
                which.instance
            )));
        }
        self.unregistered.lock().unwrap().push(which);
        Ok(2)
    }

    fn turn(&self, plugin: &str, turn: Turn) -> Result<Turned, ControlError> {
        if plugin != "index" {
            return Err(ControlError::NotFound(format!(
                "no plugin is called {plugin:?}"
            )));
        }
        Ok(Turned {
            plugin: plugin.into(),
            generation: if turn == Turn::Back { 1 } else { 2 },
        })
    }

    fn reload(&self) -> Result<Reloaded, ControlError> {
        if !self.ready().ready {
            return Err(ControlError::Failed("not yet".into()));
        }
        Ok(Reloaded {
            changed: vec!["index".into()],
            ..Reloaded::default()
        })
    }

    fn ready(&self) -> Readiness {
        self.latch.readiness()
    }

    fn health(&self) -> Health {
        self.health.lock().unwrap().clone()
    }

    fn metrics(&self) -> String {
        "# TYPE penstock_up gauge\npenstock_up 1\n".into()
    }
}

// === impl House ===

impl House {
    pub fn open() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut DoorsConfig)) -> Self {
        let mut config = DoorsConfig {
            http: Some("127.0.0.1:0".parse().unwrap()),
            zmq: Some("tcp://127.0.0.1:0".into()),
            ..DoorsConfig::default()
        };
        change(&mut config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let room = Room::new();
        let doors = Doors::start(config, room.clone(), room.clone(), runtime.handle()).unwrap();
        Self {
            room,
            doors: Some(doors),
            runtime,
        }
    }

    pub fn doors(&self) -> &Doors {
        self.doors.as_ref().unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.doors().addresses().http.unwrap())
    }

    pub fn zmq(&self) -> String {
        self.doors().addresses().zmq.clone().unwrap()
    }

    pub fn total(&self, name: &str) -> u64 {
        let totals = self.doors().router_totals().unwrap().read();
        totals.iter().find(|(n, _)| *n == name).unwrap().1
    }

    pub fn open_all_gates(&self) {
        for gate in [Gate::Config, Gate::Plugins, Gate::Discovery] {
            self.room.latch.open(gate);
        }
    }
}
