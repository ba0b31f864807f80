//! What the daemon itself binds: that it can be bound, and that no two are one.

use super::place::Where;
use super::{Config, ConfigError};
use penstock_event::{Mode, SourceSpec};
use std::net::SocketAddr;

/// An address to be bound, and who wants it.
struct Bound {
    key: String,
    host: String,
    port: u16,
}

/// Checks the doors, and them against the sources that bind.
///
/// # Errors
/// No address, or one that is taken already.
pub fn check(
    config: &Config,
    sources: &[(usize, SourceSpec)],
    place: &Where,
) -> Result<(), ConfigError> {
    let mut bound: Vec<Bound> = Vec::new();
    bound.extend(http(&config.query.http, place)?);
    bound.extend(zmq(&config.query.zmq, place)?);
    for (number, spec) in sources.iter().filter(|(_, s)| s.mode == Mode::Bind) {
        let of = |endpoint| tcp(&format!("sources.{number}.endpoint"), endpoint);
        bound.extend(spec.endpoints.iter().filter_map(|endpoint| of(endpoint)));
    }
    for (at, one) in bound.iter().enumerate() {
        if let Some(other) = bound[..at].iter().find(|other| one.meets(other)) {
            let why = format!(
                "{}:{} is taken by {} ({}:{}); give it a port of its own",
                one.host, one.port, other.key, other.host, other.port
            );
            return Err(place.at(&one.key, why));
        }
    }
    Ok(())
}

fn http(http: &str, place: &Where) -> Result<Option<Bound>, ConfigError> {
    if http == "off" {
        return Ok(None);
    }
    let address: SocketAddr = http.parse().map_err(|_| {
        let why = format!("{http:?} is no address; say \"127.0.0.1:7780\" or \"off\"");
        place.at("query.http", why)
    })?;
    Ok(tcp("query.http", &format!("tcp://{address}")))
}

fn zmq(zmq: &str, place: &Where) -> Result<Option<Bound>, ConfigError> {
    if zmq == "off" {
        return Ok(None);
    }
    // `*` as port: any free one, which the log then names.
    let any = zmq.strip_suffix(":*");
    let endpoint = any.map_or(zmq.to_string(), |host| format!("{host}:1"));
    let endpoint = penstock_ingest::check_endpoint(&endpoint, Mode::Bind)
        .map_err(|e| place.at("query.zmq", e.to_string()))?;
    Ok(match any {
        Some(_) => None,
        None => tcp("query.zmq", &endpoint),
    })
}

fn tcp(key: &str, endpoint: &str) -> Option<Bound> {
    let (host, port) = endpoint.strip_prefix("tcp://")?.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host {
        "localhost" => "127.0.0.1",
        host => host,
    };
    Some(Bound {
        key: key.into(),
        host: host.into(),
        port,
    })
}

// === impl Bound ===

impl Bound {
    fn meets(&self, other: &Self) -> bool {
        self.port == other.port
            && (self.host == other.host || self.covers(other) || other.covers(self))
    }

    fn covers(&self, other: &Self) -> bool {
        match self.host.as_str() {
            "*" | "[::]" => true,
            "0.0.0.0" => !other.host.starts_with('['),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meet(a: &str, b: &str) -> bool {
        let bound = |endpoint| tcp("k", endpoint).unwrap();
        bound(a).meets(&bound(b)) && bound(b).meets(&bound(a))
    }

    #[test]
    fn wildcards_take_every_address_of_their_kind() {
        for (a, b, same) in [
            ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1", true),
            ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", false),
            ("tcp://0.0.0.0:1", "tcp://127.0.0.1:1", true),
            ("tcp://localhost:1", "tcp://127.0.0.1:1", true),
            ("tcp://*:1", "tcp://eth0:1", true),
            ("tcp://[::]:1", "tcp://10.0.0.1:1", true),
            ("tcp://0.0.0.0:1", "tcp://[::1]:1", false),
            ("tcp://10.0.0.1:1", "tcp://10.0.0.2:1", false),
        ] {
            assert_eq!(meet(a, b), same, "{a} {b}");
        }
        assert!(tcp("k", "tcp://127.0.0.1:0").is_none());
    }
}
