//! `publish`: messages to the plugin's sinks. Never blocks: a sink's queue is
//! bounded and says when it is full.

use crate::bindings::base::penstock::plugin::publish::Host;
use crate::ctx::Ctx;
use bytes::Bytes;
use penstock_event::{Position, Publish, PublishError};
use std::sync::Arc;

/// Called outside `on-batch` where it needs a batch.
const NO_BATCH: u32 = 5;

/// Longest topic, in bytes.
const MAX_TOPIC: usize = 4_096;

impl Host for Ctx {
    fn send(&mut self, sink: String, topic: Vec<u8>, payload: Vec<u8>) -> Result<(), u32> {
        self.published = self.published.saturating_add(payload.len());
        if self.published > self.setup.limits.publish_bytes {
            return self.too_large(&sink);
        }
        self.note(&[sink.as_bytes(), &topic, &payload]);
        self.publish(&sink, topic, payload.into())
    }

    fn forward(&mut self, sink: String, topic: Vec<u8>) -> Result<(), u32> {
        let payload = self.current.as_ref().and_then(|c| c.payload.clone());
        let payload = payload.ok_or(NO_BATCH)?;
        self.note(&[sink.as_bytes(), &topic, &payload]);
        self.publish(&sink, topic, payload)
    }

    fn skip(&mut self, sink: String) -> Result<(), u32> {
        self.note(&[b"skip", sink.as_bytes()]);
        let sink = self.sink(&sink)?;
        if self.effects {
            sink.skip().map_err(|e| e as u32)?;
        }
        Ok(())
    }
}

impl Ctx {
    fn sink(&self, name: &str) -> Result<&Arc<dyn Publish>, u32> {
        let sink = self.setup.sinks.get(name);
        sink.ok_or(PublishError::NoSink as u32)
    }

    /// For a shadow: what was published, whether it left or not.
    pub(crate) fn note(&mut self, parts: &[&[u8]]) {
        if let Some((count, sum)) = &mut self.said {
            *count += 1;
            for part in parts {
                let next = *sum ^ penstock_event::digest(part);
                *sum = next.rotate_left(23).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            }
        }
    }

    /// Refused before the sink saw it, which leaves the number out all the same.
    fn too_large(&self, sink: &str) -> Result<(), u32> {
        let sink = self.sink(sink)?;
        if self.effects {
            sink.skip().map_err(|e| e as u32)?;
        }
        Err(PublishError::TooLarge as u32)
    }

    fn publish(&self, sink: &str, topic: Vec<u8>, payload: Bytes) -> Result<(), u32> {
        if topic.len() > MAX_TOPIC {
            return self.too_large(sink);
        }
        let sink = self.sink(sink)?;
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
