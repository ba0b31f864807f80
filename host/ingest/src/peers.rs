//! Who is connected to one socket, as its monitor tells it.

use penstock_order::Micros;

/// Connections of one socket.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// Peers connected now.
    pub(crate) up: usize,
    /// Handshakes so far.
    pub(crate) accepts: u64,
    /// Connections lost and not yet replaced.
    lost: usize,
    /// A handshake failed; its connection's end is no loss.
    failing: bool,
    /// Ends after which libzmq has not tried again so far.
    silent: Vec<(String, Micros)>,
}

/// What a handshake means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rise {
    /// The first peer.
    First,
    /// A peer is back, or another one took its place.
    Again,
    /// One more, none was missing.
    More,
}

/// libzmq says at once that it tries again, unless it has given up.
const SILENCE: Micros = 2_000_000;

/// Endpoints a socket may have and still be watched for sessions given up.
const WATCHED: usize = 64;

// === impl Peers ===

impl Peers {
    pub(crate) fn up(&mut self, address: &str) -> Rise {
        self.retried(address);
        self.accepts += 1;
        self.up += 1;
        let again = self.lost > 0;
        self.lost = self.lost.saturating_sub(1);
        match (self.up, again) {
            (1, _) => Rise::First,
            (_, true) => Rise::Again,
            _ => Rise::More,
        }
    }

    pub(crate) fn failed(&mut self) {
        self.failing = true;
    }

    /// True when a peer that was up is gone.
    pub(crate) fn lost(&mut self, address: String, now: Micros) -> bool {
        if self.silent.len() < WATCHED {
            self.silent.push((address, now + SILENCE));
        }
        if std::mem::take(&mut self.failing) || self.up == 0 {
            return false;
        }
        self.up -= 1;
        self.lost += 1;
        true
    }

    pub(crate) fn retried(&mut self, address: &str) {
        // A name may be told as such first and as its address later; where only one
        // address is at stake, it does not matter which.
        if self.silent.len() == 1 {
            self.silent.clear();
        } else {
            self.silent.retain(|(silent, _)| silent != address);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Micros> {
        self.silent.iter().map(|(_, at)| *at).min()
    }

    /// An address that libzmq has given up.
    pub(crate) fn given_up(&mut self, now: Micros) -> Option<String> {
        let at = self.silent.iter().position(|(_, at)| *at <= now)?;
        Some(self.silent.swap_remove(at).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_no_loss() {
        let mut peers = Peers::default();
        assert_eq!(peers.up("a"), Rise::First);
        peers.failed();
        assert!(!peers.lost("a".into(), 0));
        assert_eq!(peers.up, 1);
        assert!(peers.lost("a".into(), 0));
        assert!(!peers.lost("a".into(), 0));
        assert_eq!(peers.up("a"), Rise::First);
    }

    #[test]
    fn a_second_peer_is_not_a_reconnect_but_its_return_is() {
        let mut peers = Peers::default();
        assert_eq!(peers.up("a"), Rise::First);
        assert_eq!(peers.up("b"), Rise::More);
        assert!(peers.lost("b".into(), 0));
        assert_eq!(peers.up("b"), Rise::Again);
        assert_eq!(peers.up("c"), Rise::More);
        assert_eq!((peers.up, peers.accepts), (3, 4));
    }

    #[test]
    fn sessions_given_up_are_noticed() {
        let mut peers = Peers::default();
        peers.up("a");
        peers.lost("a".into(), 0);
        peers.retried("1.2.3.4");
        assert_eq!(peers.deadline(), None);
        peers.lost("a".into(), 5);
        assert_eq!(peers.given_up(5), None);
        assert_eq!(peers.given_up(5 + SILENCE).as_deref(), Some("a"));
        assert_eq!(peers.deadline(), None);
    }
}
