//! Sources, batches, and a sink and a recorder that remember.

use bytes::Bytes;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use penstock_event::{
    Batch, By, ColumnSet, Columns, Epoch, EventRow, Kind, Medium, Position, Publish, PublishError,
    Query, SourceId, SourceInfo, SourceSpec, SourceState,
};
use penstock_plugin::{Candidate, Compiled, Grants, Host, Instance, Limits, LoadError, Setup};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

/// One engine for all tests: starting one is cheap, a ticker each is not.
pub static HOST: LazyLock<Arc<Host>> = LazyLock::new(|| Host::new().unwrap());

pub fn guest(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/guests/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}; tests/guests/make.sh makes it"))
}

pub fn compile(name: &str, grants: &Grants) -> Result<Arc<Compiled>, LoadError> {
    HOST.compile(&guest(name), grants, &Limits::default())
}

/// `hostile`, compiled once.
pub fn hostile() -> Arc<Compiled> {
    static HOSTILE: LazyLock<Arc<Compiled>> =
        LazyLock::new(|| compile("hostile", &Grants::all()).unwrap());
    HOSTILE.clone()
}

pub fn setup(limits: Limits, sink: &Arc<Sink>, config: &str) -> Arc<Setup> {
    let sinks: HashMap<String, Arc<dyn Publish>> = [("out".into(), sink.clone() as _)].into();
    let config = serde_json::from_str(config).unwrap();
    Setup::new("hostile", limits, Grants::all(), Some(&config), sinks)
}

pub fn candidate(limits: Limits, config: &str) -> Result<Candidate, LoadError> {
    Candidate::prepare(&HOST, &hostile(), &setup(limits, &Arc::default(), config))
}

/// A `hostile` that knows source 1, and its sink.
pub fn instance(limits: Limits) -> (Instance, Arc<Sink>) {
    let sink = Arc::<Sink>::default();
    let setup = setup(limits, &sink, "{}");
    let mut instance = Instance::new(&HOST, &hostile(), &setup).unwrap();
    instance.describe().unwrap();
    instance.init("{}").unwrap();
    instance.on_source(&joined(1)).unwrap();
    instance.set_effects(true);
    (instance, sink)
}

pub fn source(id: u32) -> Arc<SourceState> {
    let spec = SourceSpec {
        instance: format!("vllm-{id}"),
        model: "m".into(),
        block_size: 16,
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        ..SourceSpec::default()
    };
    let info = SourceInfo {
        id: SourceId(id),
        name: spec.name().into(),
        spec,
    };
    let state = SourceState::new(info);
    state.set_link(penstock_event::Link::Live);
    Arc::new(state)
}

pub fn joined(id: u32) -> penstock_event::Change {
    penstock_event::Change::Joined(source(id))
}

/// A batch of one event; its sequence says what `hostile` does.
pub fn batch(source: u32, sequence: u64) -> Arc<Batch> {
    let row = EventRow {
        kind: Kind::Stored,
        medium: Medium::Gpu,
        flags: 0,
        group: 0,
        block_size: 16,
        adapter: 0,
        salt: 0,
        model: 0,
        medium_name: 0,
        block_end: 1,
    };
    let columns = Columns {
        filled: ColumnSet::ALL,
        events: row.to_words().to_vec(),
        parents: vec![0],
        hashes: vec![sequence],
        token_hashes: vec![sequence],
        ..Columns::default()
    };
    Arc::new(Batch {
        source: SourceId(source),
        epoch: Epoch(0),
        sequence,
        rank: None,
        published_us: 1,
        received_us: 2,
        replayed: false,
        dictionary_len: 0,
        columns: columns.into(),
        payload: Bytes::from_static(b"as it came"),
        digest: 0,
        skipped: Vec::new(),
    })
}

pub fn query(by: By) -> Query {
    Query {
        model: "m".into(),
        adapter: String::new(),
        salt: String::new(),
        by,
        deadline: Duration::from_secs(10),
        include_stale: false,
    }
}

/// Waits for a condition; panics with `what` when it does not come.
pub fn until(what: &str, mut yes: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !yes() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Topic, payload, name of the source, position.
pub type Message = (Bytes, Bytes, Option<String>, Position);

/// A sink that remembers.
#[derive(Default)]
pub struct Sink {
    pub sent: Mutex<Vec<Message>>,
    pub full: std::sync::atomic::AtomicBool,
    pub skipped: std::sync::atomic::AtomicU64,
}

impl Publish for Sink {
    fn publish(
        &self,
        topic: Bytes,
        payload: Bytes,
        source: Option<&SourceInfo>,
        position: Position,
    ) -> Result<(), PublishError> {
        if self.full.load(Relaxed) {
            return Err(PublishError::Full);
        }
        let source = source.map(|s| s.name.to_string());
        self.sent
            .lock()
            .unwrap()
            .push((topic, payload, source, position));
        Ok(())
    }

    fn skip(&self) -> Result<(), PublishError> {
        self.skipped.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// A recorder of counters, by name.
#[derive(Default)]
pub struct Counters(Mutex<HashMap<String, Arc<AtomicU64>>>);

impl Counters {
    pub fn get(&self, name: &str) -> u64 {
        self.0
            .lock()
            .unwrap()
            .get(name)
            .map_or(0, |c| c.load(Relaxed))
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut all = self.0.lock().unwrap();
        Counter::from_arc(all.entry(key.name().to_owned()).or_default().clone())
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
