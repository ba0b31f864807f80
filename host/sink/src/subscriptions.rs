//! Who listens, as far as XPUB tells: the set of subscribed topic prefixes.
//!
//! It is for counting only; messages are given to libzmq in any case, because
//! an unsubscription of something never subscribed to is passed on as well and
//! would otherwise silence the others.

use std::collections::{BTreeMap, HashSet};

/// Prefixes kept. Above it, topics count as subscribed: libzmq knows, we do not.
const MOST: usize = 65_536;

#[derive(Default)]
pub(crate) struct Subscriptions {
    /// By length, so that a topic is looked up once for each length in use.
    by_length: BTreeMap<usize, HashSet<Box<[u8]>>>,
    held: usize,
    overflowed: bool,
}

impl Subscriptions {
    /// Takes what XPUB said: `01 prefix` or `00 prefix`. Anything else is a
    /// subscriber talking out of turn and ignored.
    pub(crate) fn heard(&mut self, notice: &[u8]) {
        match notice.split_first() {
            Some((1, prefix)) => {
                if self.held >= MOST {
                    self.overflowed = true;
                    return;
                }
                let set = self.by_length.entry(prefix.len()).or_default();
                self.held += usize::from(set.insert(prefix.into()));
            }
            Some((0, prefix)) => {
                if let Some(set) = self.by_length.get_mut(&prefix.len()) {
                    self.held -= usize::from(set.remove(prefix));
                    if set.is_empty() {
                        self.by_length.remove(&prefix.len());
                    }
                }
            }
            _ => {}
        }
    }

    /// Distinct prefixes subscribed to.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Whether somebody subscribed to a prefix of this topic.
    pub(crate) fn wants(&self, topic: &[u8]) -> bool {
        self.overflowed
            || self
                .by_length
                .range(..=topic.len())
                .any(|(len, set)| topic.get(..*len).is_some_and(|p| set.contains(p)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_come_and_go() {
        let mut s = Subscriptions::default();
        assert!(!s.wants(b"") && !s.wants(b"kv@a"));
        s.heard(b"\x01kv@");
        assert!(s.wants(b"kv@") && s.wants(b"kv@a"));
        assert!(!s.wants(b"kv") && !s.wants(b"xkv@a"));
        s.heard(b"\x01");
        assert!(s.wants(b"") && s.wants(b"other"));
        s.heard(b"\x00kv@");
        s.heard(b"\x00never");
        s.heard(b"");
        s.heard(b"\x07nonsense");
        assert!(s.wants(b"kv@a"), "the empty prefix is still there");
        s.heard(b"\x00");
        assert!(!s.wants(b"kv@a"));
        assert_eq!(s.held, 0);
    }

    #[test]
    fn a_flood_of_prefixes_is_bounded() {
        let mut s = Subscriptions::default();
        for i in 0..MOST as u32 + 1 {
            let mut notice = vec![1];
            notice.extend(i.to_be_bytes());
            s.heard(&notice);
        }
        assert_eq!(s.held, MOST);
        assert!(s.wants(b"anything"), "unknown counts as subscribed");
    }
}
