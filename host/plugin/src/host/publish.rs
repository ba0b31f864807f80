//! `publish`: messages to the plugin's sinks. Never blocks: a sink's queue is
//! bounded and says when it is full.

use crate::bindings::base::penstock::plugin::publish::Host;
use crate::ctx::Ctx;
use bytes::Bytes;
use penstock_event::{Position, PublishError};

/// Called outside `on-batch` where it needs a batch.
const NO_BATCH: u32 = 5;

/// Longest topic, in bytes.
const MAX_TOPIC: usize = 4_096;

impl Host for Ctx {
    fn send(&mut self, sink: String, topic: Vec<u8>, payload: Vec<u8>) -> Result<(), u32> {
        self.published = self.published.saturating_add(payload.len());
        if self.published > self.setup.limits.publish_bytes {
            return Err(PublishError::TooLarge as u32);
        }
        self.publish(&sink, topic, payload.into())
    }

    fn forward(&mut self, sink: String, topic: Vec<u8>) -> Result<(), u32> {
        let payload = self.current.as_ref().and_then(|c| c.payload.clone());
        self.publish(&sink, topic, payload.ok_or(NO_BATCH)?)
    }
}

impl Ctx {
    fn publish(&self, sink: &str, topic: Vec<u8>, payload: Bytes) -> Result<(), u32> {
        if topic.len() > MAX_TOPIC {
            return Err(PublishError::TooLarge as u32);
        }
        let sink = self
            .setup
            .sinks
            .get(sink)
            .ok_or(PublishError::NoSink as u32)?;
        if !self.effects {
            return Ok(());
        }
        let (source, position) = match &self.current {
            Some(current) => (Some(&current.source.info), current.position),
            None => (None, Position::default()),
        };
        sink.publish(topic.into(), payload, source, position)
            .map_err(|e| e as u32)
    }
}
