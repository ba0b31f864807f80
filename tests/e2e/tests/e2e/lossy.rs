//! A way between a publisher and its subscribers that loses what it is told to:
//! what a full queue does to a real stream, but chosen.

use penstock_peer::faults::Selector;
use penstock_testkit::peers::select;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

/// A running proxy; ends when dropped.
pub struct Proxy {
    /// Where subscribers connect.
    pub endpoint: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    subscribed: AtomicBool,
    dropped: AtomicU64,
}

impl Proxy {
    /// Passes on what comes from `upstream`, all but some sequences.
    pub fn start(upstream: &str, lost: &str) -> Self {
        let context = zmq::Context::new();
        let front = context.socket(zmq::XPUB).unwrap();
        front.set_linger(0).unwrap();
        front.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = front.get_last_endpoint().unwrap().unwrap();
        let back = context.socket(zmq::SUB).unwrap();
        back.set_linger(0).unwrap();
        back.set_subscribe(b"").unwrap();
        back.connect(upstream).unwrap();
        let shared = Arc::new(Shared::default());
        let (lost, all) = (select(lost), shared.clone());
        let thread = std::thread::spawn(move || pass(&back, &front, &lost, &all));
        Self {
            endpoint,
            shared,
            thread: Some(thread),
        }
    }

    /// Somebody has subscribed.
    pub fn subscribed(&self) -> bool {
        self.shared.subscribed.load(Relaxed)
    }

    /// Messages lost so far.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic was told already.
            let _ = thread.join();
        }
    }
}

fn pass(back: &zmq::Socket, front: &zmq::Socket, lost: &Selector, shared: &Shared) {
    while !shared.stop.load(Relaxed) {
        let mut items = [
            back.as_poll_item(zmq::POLLIN),
            front.as_poll_item(zmq::POLLIN),
        ];
        zmq::poll(&mut items, 20).unwrap();
        if items[1].is_readable() {
            let news = front.recv_bytes(0).unwrap();
            shared.subscribed.store(news.first() == Some(&1), Relaxed);
        }
        if items[0].is_readable() {
            let frames = back.recv_multipart(0).unwrap();
            let sequence = u64::from_be_bytes(frames[1][..].try_into().unwrap());
            if lost.contains(sequence) {
                shared.dropped.fetch_add(1, Relaxed);
            } else {
                front.send_multipart(frames, 0).unwrap();
            }
        }
    }
}
