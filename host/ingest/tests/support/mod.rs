//! An engine's side, small and with faults on demand, and an outlet that remembers.

#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use penstock_event::{
    Change, ColumnSet, GapReason, Item, Mode, Outlet, SourceId, SourceSpec, SourceState,
};
use penstock_ingest::{Ingest, IngestConfig, Sources};
use std::collections::{BTreeMap, VecDeque};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than anything here takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

// === the engine ===

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Old,
    New,
}

pub struct EngineSpec {
    pub endpoints: Vec<String>,
    pub connects: bool,
    pub replay: Option<(String, Framing)>,
    pub topic: String,
    /// Batches that replay holds.
    pub keep: usize,
    pub context: zmq::Context,
}

enum Order {
    Publish(u64, Vec<u8>, bool),
    Raw(Vec<Vec<u8>>),
    Tell(Sender<()>),
    Stop,
}

pub struct Engine {
    orders: Sender<Order>,
    subscribers: Arc<(Mutex<usize>, Condvar)>,
    thread: Option<JoinHandle<()>>,
    pub life: u64,
    next: u64,
}

pub fn engine_at(endpoint: &str) -> EngineSpec {
    EngineSpec {
        endpoints: vec![endpoint.to_owned()],
        connects: false,
        replay: None,
        topic: "kv".into(),
        keep: 10_000,
        context: zmq::Context::new(),
    }
}

impl EngineSpec {
    pub fn replay(mut self, endpoint: &str, framing: Framing) -> Self {
        self.replay = Some((endpoint.to_owned(), framing));
        self
    }

    pub fn start(self, life: u64) -> Engine {
        let (orders, inbox) = channel();
        let subscribers = Arc::new((Mutex::new(0), Condvar::new()));
        let seen = subscribers.clone();
        let (up, ready) = channel();
        let thread = std::thread::spawn(move || serve(self, &inbox, &seen, &up));
        ready.recv_timeout(PATIENCE).expect("the engine starts");
        Engine {
            orders,
            subscribers,
            thread: Some(thread),
            life,
            next: 0,
        }
    }
}

impl Engine {
    /// Publishes the next `n` batches.
    pub fn publish(&mut self, n: u64) {
        for _ in 0..n {
            self.one(true);
        }
    }

    /// The next `n` batches are held for replay, but never sent.
    pub fn lose(&mut self, n: u64) {
        for _ in 0..n {
            self.one(false);
        }
    }

    fn one(&mut self, sent: bool) {
        let payload = payload(hash(self.life, self.next));
        self.send(Order::Publish(self.next, payload, sent));
        self.next += 1;
    }

    /// The next batch has this payload.
    pub fn publish_payload(&mut self, payload: Vec<u8>) {
        self.send(Order::Publish(self.next, payload, true));
        self.next += 1;
    }

    /// A message as it stands.
    pub fn raw(&mut self, frames: &[&[u8]]) {
        self.send(Order::Raw(frames.iter().map(|f| f.to_vec()).collect()));
    }

    /// Batches so far, sent or not.
    pub fn published(&self) -> u64 {
        self.next
    }

    /// Waits until everything was handed to the socket.
    pub fn flush(&self) {
        let (tell, told) = channel();
        self.send(Order::Tell(tell));
        told.recv_timeout(PATIENCE).expect("the engine answers");
    }

    pub fn wait_subscribers(&self, n: usize) {
        let (count, changed) = &*self.subscribers;
        let count = count.lock().unwrap();
        let (count, _) = changed
            .wait_timeout_while(count, PATIENCE, |count| *count < n)
            .unwrap();
        assert!(*count >= n, "{n} subscribers in time, not {}", *count);
    }

    fn send(&self, order: Order) {
        self.orders.send(order).expect("the engine runs");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    spec: EngineSpec,
    inbox: &Receiver<Order>,
    subscribers: &(Mutex<usize>, Condvar),
    up: &Sender<()>,
) {
    let publisher = spec.context.socket(zmq::XPUB).unwrap();
    publisher.set_linger(0).unwrap();
    publisher.set_sndhwm(200_000).unwrap();
    publisher.set_reconnect_ivl(50).unwrap();
    for endpoint in &spec.endpoints {
        if spec.connects {
            publisher.connect(endpoint).unwrap();
        } else {
            bind(&publisher, endpoint);
        }
    }
    let router = spec.replay.as_ref().map(|(endpoint, framing)| {
        let router = spec.context.socket(zmq::ROUTER).unwrap();
        router.set_linger(0).unwrap();
        router.set_sndhwm(200_000).unwrap();
        bind(&router, endpoint);
        (router, *framing)
    });
    up.send(()).unwrap();
    let mut held: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
    loop {
        match inbox.recv_timeout(Duration::from_millis(2)) {
            Ok(Order::Publish(sequence, payload, sent)) => {
                if sent {
                    let number = sequence.to_be_bytes();
                    let frames: [&[u8]; 3] = [spec.topic.as_bytes(), &number, &payload];
                    publisher.send_multipart(frames, 0).unwrap();
                }
                held.push_back((sequence, payload));
                if held.len() > spec.keep {
                    held.pop_front();
                }
            }
            Ok(Order::Raw(frames)) => publisher.send_multipart(frames, 0).unwrap(),
            Ok(Order::Tell(tell)) => tell.send(()).unwrap(),
            Ok(Order::Stop) | Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
        }
        while let Ok(change) = publisher.recv_bytes(zmq::DONTWAIT) {
            let (count, changed) = subscribers;
            let mut count = count.lock().unwrap();
            if change.first() == Some(&1) {
                *count += 1;
            }
            changed.notify_all();
        }
        if let Some((router, framing)) = &router {
            while let Ok(request) = router.recv_multipart(zmq::DONTWAIT) {
                answer(router, *framing, &spec.topic, &request, &held);
            }
        }
    }
}

fn answer(
    router: &zmq::Socket,
    framing: Framing,
    topic: &str,
    request: &[Vec<u8>],
    held: &VecDeque<(u64, Vec<u8>)>,
) {
    let [who, empty, start] = request else { return };
    let Ok(start) = start.as_slice().try_into().map(u64::from_be_bytes) else {
        return;
    };
    let send = |topic: &[u8], number: [u8; 8], payload: &[u8]| {
        let frames: Vec<&[u8]> = match framing {
            Framing::Old => vec![who, empty, &number, payload],
            Framing::New => vec![who, empty, topic, &number, payload],
        };
        router.send_multipart(frames, zmq::DONTWAIT).unwrap();
    };
    for (sequence, payload) in held.iter().filter(|(sequence, _)| *sequence >= start) {
        send(topic.as_bytes(), sequence.to_be_bytes(), payload);
    }
    send(b"", [0xff; 8], b"");
}

/// An address stays in use for a moment after its socket was closed.
fn bind(socket: &zmq::Socket, endpoint: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        match socket.bind(endpoint) {
            Ok(()) => return,
            Err(zmq::Error::EADDRINUSE) if Instant::now() < until => std::thread::yield_now(),
            Err(error) => panic!("{endpoint}: {error}"),
        }
    }
}

/// The one block hash of a batch: which life of the engine, which batch.
pub fn hash(life: u64, sequence: u64) -> u64 {
    life * 1_000_000 + sequence
}

/// A batch with one stored block.
pub fn payload(hash: u64) -> Vec<u8> {
    use rmp::encode::*;
    let mut out = Vec::new();
    write_array_len(&mut out, 3).unwrap();
    write_f64(&mut out, 1.5).unwrap();
    write_array_len(&mut out, 1).unwrap();
    write_array_len(&mut out, 6).unwrap();
    write_str(&mut out, "BlockStored").unwrap();
    write_array_len(&mut out, 1).unwrap();
    write_u64(&mut out, hash).unwrap();
    write_nil(&mut out).unwrap();
    write_array_len(&mut out, 2).unwrap();
    write_uint(&mut out, 1).unwrap();
    write_uint(&mut out, 2).unwrap();
    write_uint(&mut out, 2).unwrap();
    write_nil(&mut out).unwrap();
    write_uint(&mut out, 0).unwrap();
    out
}

// === the outlet ===

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Joined,
    Left,
    /// The engine was shown to be the one of the checkpoint.
    Proven,
    Reset(u32),
    Gap(u32, u64, u64, GapReason),
    Batch(u32, u64, u64),
}

#[derive(Default)]
pub struct Recorder {
    log: Mutex<Vec<(SourceId, Seen)>>,
    changed: Condvar,
    /// While held, deliveries of batches wait.
    pub hold: Mutex<()>,
}

impl Outlet for Recorder {
    fn wanted(&self, _: SourceId) -> ColumnSet {
        ColumnSet::TOKEN_HASHES
    }

    fn deliver(&self, state: &Arc<SourceState>, item: Item) {
        if let Item::Change(change) = &item {
            state.note(change);
        }
        let seen = match item {
            Item::Batch(batch) => {
                drop(self.hold.lock().unwrap());
                let hash = batch.columns.hashes.first().copied().unwrap_or(u64::MAX);
                Seen::Batch(batch.epoch.0, batch.sequence, hash)
            }
            Item::Change(Change::Joined(_)) => Seen::Joined,
            Item::Change(Change::Left(_)) => Seen::Left,
            Item::Change(Change::Reset { epoch, .. }) => Seen::Reset(epoch.0),
            Item::Change(Change::Gap {
                epoch,
                first,
                last,
                reason,
                ..
            }) => Seen::Gap(epoch.0, first, last, reason),
        };
        self.saw(state.info.id, seen);
    }

    fn proven(&self, state: &Arc<SourceState>) {
        self.saw(state.info.id, Seen::Proven);
    }
}

impl Recorder {
    fn saw(&self, id: SourceId, seen: Seen) {
        self.log.lock().unwrap().push((id, seen));
        self.changed.notify_all();
    }

    pub fn of(&self, id: SourceId) -> Vec<Seen> {
        let log = self.log.lock().unwrap();
        let mine = log.iter().filter(|(of, _)| *of == id);
        mine.map(|(_, seen)| seen.clone()).collect()
    }

    pub fn all(&self) -> Vec<(SourceId, Seen)> {
        self.log.lock().unwrap().clone()
    }

    /// Waits until what was seen of a source fits; returns it.
    pub fn wait(&self, id: SourceId, what: &str, fits: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let until = Instant::now() + PATIENCE;
        loop {
            let seen = self.of(id);
            if fits(&seen) {
                return seen;
            }
            let log = self.log.lock().unwrap();
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "never {what}: {:?}", brief(&seen));
            let step = left.min(Duration::from_millis(50));
            drop(self.changed.wait_timeout(log, step).unwrap());
        }
    }

    /// Waits for a batch.
    pub fn wait_batch(&self, id: SourceId, epoch: u32, sequence: u64) -> Vec<Seen> {
        self.wait(id, &format!("batch {epoch}/{sequence}"), |seen| {
            seen.iter()
                .any(|s| matches!(s, Seen::Batch(e, q, _) if (*e, *q) == (epoch, sequence)))
        })
    }
}

fn brief(seen: &[Seen]) -> &[Seen] {
    &seen[seen.len().saturating_sub(60)..]
}

/// Batches `0..n` of an epoch and a life, as they should be seen.
pub fn batches(epoch: u32, life: u64, range: std::ops::Range<u64>) -> Vec<Seen> {
    range
        .map(|sequence| Seen::Batch(epoch, sequence, hash(life, sequence)))
        .collect()
}

pub fn joined_and(rest: Vec<Seen>) -> Vec<Seen> {
    let mut all = vec![Seen::Joined];
    all.extend(rest);
    all
}

/// Waits until a condition holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

// === the rest ===

pub struct Bench {
    pub ingest: Ingest,
    pub seen: Arc<Recorder>,
    pub dir: tempfile::TempDir,
}

/// Short waits, so that tests end soon.
pub fn quick() -> IngestConfig {
    IngestConfig {
        replay_wait: Duration::from_secs(2),
        replay_attempts: 2,
        replay_jitter: Duration::from_millis(1),
        tail_after: Duration::from_millis(200),
        ..IngestConfig::default()
    }
}

pub fn bench(config: IngestConfig) -> Bench {
    bench_of(config, Sources::new())
}

pub fn bench_of(config: IngestConfig, sources: Sources) -> Bench {
    let seen = Arc::new(Recorder::default());
    let ingest = Ingest::start(config, seen.clone(), Arc::new(sources)).unwrap();
    Bench {
        ingest,
        seen,
        dir: tempfile::tempdir().unwrap(),
    }
}

impl Bench {
    pub fn ipc(&self, name: &str) -> String {
        format!("ipc://{}/{name}", self.dir.path().display())
    }
}

pub fn spec(instance: &str, endpoint: &str) -> SourceSpec {
    SourceSpec {
        instance: instance.to_owned(),
        rank: None,
        endpoints: vec![endpoint.to_owned()],
        replay: None,
        topics: Vec::new(),
        mode: Mode::Connect,
        model: String::new(),
        first_sequence: 0,
        block_size: 0,
        labels: BTreeMap::new(),
    }
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A TCP relay whose connections can be cut while both ends live on.
pub struct Relay {
    pub port: u16,
    cut: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap().port();
        let cut: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let streams = cut.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                let mut held = streams.lock().unwrap();
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    held.push(from.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Self { port: here, cut }
    }

    pub fn cut(&self) {
        for stream in self.cut.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}
