//! An engine led by hand: batch by batch, malformed ones too.

use bytes::Bytes;
use penstock_peer::encode::{Style, encode_batch};
use penstock_peer::event::{Event, Stored};
use penstock_peer::publisher::{Publisher, PublisherConfig};
use penstock_testkit::daemon::{PATIENCE, Setup};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A publisher with a replay, on a thread of its own. Ends when dropped.
pub struct Hand {
    /// Where it publishes.
    pub endpoint: String,
    /// Where it answers replays.
    pub replay: String,
    orders: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Publish(Bytes, SyncSender<u64>),
    Raw(Vec<Vec<u8>>),
    Subscribers(usize, SyncSender<bool>),
}

/// How often replays are looked after.
const TURN: Duration = Duration::from_millis(2);

// === impl Hand ===

impl Hand {
    /// An engine on free ports.
    pub fn start() -> Self {
        Self::start_at("tcp://127.0.0.1:*")
    }

    /// An engine at an endpoint.
    pub fn start_at(endpoint: &str) -> Self {
        let config = PublisherConfig {
            replay: Some("tcp://127.0.0.1:*".into()),
            linger: Duration::ZERO,
            ..PublisherConfig::new(endpoint)
        };
        let publisher = Publisher::open(&zmq::Context::new(), config).unwrap();
        let (orders, inbox) = sync_channel(1_024);
        Self {
            endpoint: publisher.endpoint().into(),
            replay: publisher.replay_endpoint().unwrap().into(),
            orders: Some(orders),
            thread: Some(std::thread::spawn(move || serve(publisher, &inbox))),
        }
    }

    /// Makes it a source.
    pub fn source(&self, setup: Setup, name: &str) -> Setup {
        setup.source(name, &self.endpoint, Some(&self.replay))
    }

    /// Waits for subscribers: what is sent before is seen by replay alone.
    pub fn wait_subscribers(&self, count: usize) {
        let (done, wait) = sync_channel(1);
        self.order(Order::Subscribers(count, done));
        assert!(wait.recv().unwrap(), "no {count} subscriber(s)");
    }

    /// Publishes a payload and gives its sequence.
    pub fn publish(&self, payload: impl Into<Bytes>) -> u64 {
        let (done, wait) = sync_channel(1);
        self.order(Order::Publish(payload.into(), done));
        wait.recv().unwrap()
    }

    /// Publishes blocks of one prompt, from its start.
    pub fn store(&self, tokens: &[u32], hashes: &[u64]) -> u64 {
        self.publish(batch(&[stored(tokens, hashes)]))
    }

    /// Sends frames as they are, outside the sequence.
    pub fn raw(&self, frames: &[&[u8]]) {
        let frames = frames.iter().map(|f| f.to_vec()).collect();
        self.order(Order::Raw(frames));
    }

    fn order(&self, order: Order) {
        self.orders.as_ref().unwrap().send(order).unwrap();
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed; a second one would hide the test's own.
            let _ = thread.join();
        }
    }
}

fn serve(mut publisher: Publisher, inbox: &Receiver<Order>) {
    loop {
        match inbox.try_recv() {
            Ok(Order::Publish(payload, done)) => {
                let sent = publisher.publish(payload).unwrap();
                done.send(sent.sequence).unwrap();
            }
            Ok(Order::Raw(frames)) => publisher.send_frames(&frames).unwrap(),
            Ok(Order::Subscribers(count, done)) => {
                done.send(publisher.wait_subscribers(count, PATIENCE).unwrap())
                    .unwrap();
            }
            Err(std::sync::mpsc::TryRecvError::Empty) => publisher.wait(TURN).unwrap(),
            Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
        }
    }
}

/// Blocks of 4 tokens, from a prompt's start.
pub fn stored(tokens: &[u32], hashes: &[u64]) -> Event {
    Event::Stored(Stored {
        hashes: hashes.to_vec(),
        tokens: tokens.to_vec(),
        block_size: 4,
        medium: Some("GPU".into()),
        ..Stored::default()
    })
}

/// A batch as current engines write it.
pub fn batch(events: &[Event]) -> Vec<u8> {
    encode_batch(1.0, events, None, Style::default())
}
