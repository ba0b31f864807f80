//! What operators write as an endpoint, to what libzmq takes; or what is wrong
//! with it. No socket is opened and no name resolved here.

use penstock_event::Mode;
use std::net::Ipv6Addr;

/// What is wrong with an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("endpoint {endpoint:?}: {what}")]
pub struct EndpointError {
    /// The endpoint as it was written.
    pub endpoint: String,
    /// What is wrong with it, and what would be right.
    pub what: String,
}

/// Bytes of a Unix socket's path, without its final zero.
const MAX_PATH: usize = 107;

/// Bytes that libzmq allows in an inproc name.
const MAX_INPROC: usize = 256;

/// Checks an endpoint and brings it into libzmq's form: a bare IPv6 address gets
/// its brackets, blanks around it go.
///
/// Accepted: `tcp://HOST:PORT` with a name, an IPv4 or an IPv6 address, and for
/// [`Mode::Bind`] also `*` or an interface; `ipc://PATH`; `inproc://NAME`.
///
/// # Errors
/// [`EndpointError`] says what is wrong and what would be right.
pub fn check_endpoint(endpoint: &str, mode: Mode) -> Result<String, EndpointError> {
    let trimmed = endpoint.trim();
    check(trimmed, mode).map_err(|what| EndpointError {
        endpoint: endpoint.to_owned(),
        what,
    })
}

/// The endpoint of a data-parallel rank: the port is offset by the rank, as the
/// engines do; an inproc name gets `_dpN`. Rank 0 changes no port.
///
/// # Errors
/// [`EndpointError`]: the endpoint has no port to offset, or the port would be
/// above 65535.
pub fn with_rank(endpoint: &str, rank: u32) -> Result<String, EndpointError> {
    let wrong = |what: String| EndpointError {
        endpoint: endpoint.to_owned(),
        what,
    };
    if endpoint.starts_with("inproc://") {
        return Ok(format!("{endpoint}_dp{rank}"));
    }
    if rank == 0 {
        return Ok(endpoint.to_owned());
    }
    let parts = endpoint
        .strip_prefix("tcp://")
        .and_then(|rest| rest.rsplit_once(':'));
    let Some((host, port)) = parts else {
        return Err(wrong(format!("rank {rank} needs a tcp port to offset")));
    };
    let base = self::port(port).map_err(&wrong)?;
    match u32::from(base).checked_add(rank) {
        Some(port) if port <= u32::from(u16::MAX) => Ok(format!("tcp://{host}:{port}")),
        _ => Err(wrong(format!("port {base} + rank {rank} is above 65535"))),
    }
}

/// True for an endpoint whose address is written as IPv6, or that binds every
/// interface: the socket then needs IPv6 switched on.
pub(crate) fn wants_ipv6(endpoint: &str, mode: Mode) -> bool {
    let Some(rest) = endpoint.strip_prefix("tcp://") else {
        return false;
    };
    rest.starts_with('[') || (mode == Mode::Bind && rest.starts_with("*:"))
}

/// The host of a tcp endpoint.
pub(crate) fn host(endpoint: &str) -> Option<&str> {
    let (host, _) = endpoint.strip_prefix("tcp://")?.rsplit_once(':')?;
    Some(host)
}

fn check(endpoint: &str, mode: Mode) -> Result<String, String> {
    if endpoint.is_empty() {
        return Err("is empty; tcp://HOST:PORT is the usual form".into());
    }
    if endpoint
        .chars()
        .any(|c| c.is_whitespace() || c.is_control())
    {
        return Err("holds a blank or a control character".into());
    }
    let Some((transport, rest)) = endpoint.split_once("://") else {
        return Err(format!("no transport; did you mean tcp://{endpoint}?"));
    };
    match transport {
        "tcp" => tcp(rest, mode).map(|address| format!("tcp://{address}")),
        "ipc" => named(rest, "ipc:// needs a path", MAX_PATH).map(|()| endpoint.to_owned()),
        "inproc" => named(rest, "inproc:// needs a name", MAX_INPROC).map(|()| endpoint.to_owned()),
        other if ["tcp", "ipc", "inproc"].contains(&other.to_lowercase().as_str()) => {
            Err(format!("write {}:// in lower case", other.to_lowercase()))
        }
        other => Err(format!(
            "transport {other:?} is not one of tcp, ipc and inproc"
        )),
    }
}

fn named(rest: &str, empty: &str, max: usize) -> Result<(), String> {
    if rest.is_empty() {
        return Err(empty.into());
    }
    if rest.len() > max {
        return Err(format!(
            "{} bytes are too long, {max} are possible",
            rest.len()
        ));
    }
    Ok(())
}

fn tcp(rest: &str, mode: Mode) -> Result<String, String> {
    // libzmq's own form for a local address to connect from.
    if let (Mode::Connect, Some((from, to))) = (mode, rest.split_once(';')) {
        return tcp(to, mode).map(|to| format!("{from};{to}"));
    }
    let Some((host, port)) = rest.rsplit_once(':') else {
        return Err("no port; write tcp://HOST:PORT".into());
    };
    if host.is_empty() {
        return Err("no host; write tcp://HOST:PORT".into());
    }
    if host.ends_with(']') && port.is_empty() || host.starts_with('[') && !host.ends_with(']') {
        return Err("no port after the bracket; write tcp://[ADDRESS]:PORT".into());
    }
    let port = self::port(port)?;
    let host = self::host_of(host)?;
    let wildcard = matches!(host.as_str(), "*" | "0.0.0.0" | "[::]");
    if wildcard && mode == Mode::Connect {
        return Err(format!(
            "{host} is where an engine binds; to connect, name its host, \
             such as tcp://127.0.0.1:{port}"
        ));
    }
    Ok(format!("{host}:{port}"))
}

fn port(port: &str) -> Result<u16, String> {
    match port.parse::<u16>() {
        Ok(0) => Err("port 0 is nowhere; use 1 to 65535".into()),
        Ok(number) if !port.starts_with('+') => Ok(number),
        _ => Err(format!("port {port:?} is not a number from 1 to 65535")),
    }
}

fn host_of(host: &str) -> Result<String, String> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if bare.is_some() || host.contains(':') {
        let address = bare.unwrap_or(host);
        let digits = address.split_once('%').map_or(address, |(a, _)| a);
        return match digits.parse::<Ipv6Addr>() {
            Ok(_) => Ok(format!("[{address}]")),
            Err(_) => Err(format!(
                "{address:?} is not an IPv6 address; write tcp://[ADDRESS]:PORT"
            )),
        };
    }
    if host == "*" {
        return Ok(host.to_owned());
    }
    let looks_v4 = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    if looks_v4 && host.parse::<std::net::Ipv4Addr>().is_err() {
        return Err(format!("{host:?} is not an IPv4 address"));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if let Some(c) = host.chars().find(|c| !fits(*c)) {
        return Err(format!("{c:?} cannot be in a host name"));
    }
    if host.len() > 253 {
        return Err("a host name has at most 253 bytes".into());
    }
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Mode::{Bind, Connect};

    #[test]
    fn endpoints_that_are_right() {
        let table = [
            (Bind, "tcp://*:5557", "tcp://*:5557"),
            (Bind, "tcp://eth0:5557", "tcp://eth0:5557"),
            (Bind, "tcp://0.0.0.0:5557", "tcp://0.0.0.0:5557"),
            (Bind, "tcp://:::5557", "tcp://[::]:5557"),
            (Connect, " tcp://10.0.0.1:1 ", "tcp://10.0.0.1:1"),
            (
                Connect,
                "tcp://vllm-0.pods.svc:65535",
                "tcp://vllm-0.pods.svc:65535",
            ),
            (Connect, "tcp://my_pod:5557", "tcp://my_pod:5557"),
            (Connect, "tcp://fe80::1:5557", "tcp://[fe80::1]:5557"),
            (Connect, "tcp://::1:5557", "tcp://[::1]:5557"),
            (
                Connect,
                "tcp://[2001:db8::2]:5557",
                "tcp://[2001:db8::2]:5557",
            ),
            (
                Connect,
                "tcp://fe80::1%eth0:5557",
                "tcp://[fe80::1%eth0]:5557",
            ),
            (
                Connect,
                "tcp://eth1;10.0.0.1:5557",
                "tcp://eth1;10.0.0.1:5557",
            ),
            (Connect, "ipc:///run/kv.sock", "ipc:///run/kv.sock"),
            (Connect, "ipc://@abstract", "ipc://@abstract"),
            (Bind, "inproc://kv", "inproc://kv"),
        ];
        for (mode, written, taken) in table {
            assert_eq!(
                check_endpoint(written, mode).as_deref(),
                Ok(taken),
                "{written}"
            );
        }
    }

    #[test]
    fn endpoints_that_are_wrong_say_why() {
        let long = format!("ipc:///{}", "x".repeat(107));
        let table = [
            (Connect, "", "is empty"),
            (Connect, "10.0.0.1:5557", "did you mean tcp://10.0.0.1:5557"),
            (Connect, "tcp://*:5557", "where an engine binds"),
            (Connect, "tcp://[::]:5557", "where an engine binds"),
            (Connect, "tcp://0.0.0.0:5557", "where an engine binds"),
            (Connect, "tcp://host", "no port"),
            (Connect, "tcp://:5557", "no host"),
            (Connect, "tcp://host:", "not a number"),
            (Connect, "tcp://host:*", "not a number"),
            (Connect, "tcp://host:0", "port 0"),
            (Connect, "tcp://host:65536", "not a number"),
            (Connect, "tcp://host:+1", "not a number"),
            (Connect, "tcp://[fe80::1]", "no port after the bracket"),
            (Connect, "tcp://[fe80::1]:", "no port after the bracket"),
            (Connect, "tcp://fe80::zz:5557", "not an IPv6 address"),
            (Connect, "tcp://10.0.0.256:5557", "not an IPv4 address"),
            (Connect, "tcp://ho/st:5557", "cannot be in a host name"),
            (Connect, "tcp://ho st:5557", "blank"),
            (Connect, "ipc://", "needs a path"),
            (Connect, long.as_str(), "too long"),
            (Bind, "inproc://", "needs a name"),
            (Connect, "TCP://host:1", "lower case"),
            (Connect, "udp://host:1", "not one of tcp, ipc and inproc"),
        ];
        for (mode, written, why) in table {
            let error = check_endpoint(written, mode).unwrap_err();
            assert!(error.what.contains(why), "{written}: {error}");
        }
    }

    #[test]
    fn ranks_offset_the_port() {
        let table = [
            ("tcp://h:5557", 0, Ok("tcp://h:5557")),
            ("tcp://h:5557", 3, Ok("tcp://h:5560")),
            ("tcp://[fe80::1]:5557", 1, Ok("tcp://[fe80::1]:5558")),
            ("inproc://kv", 2, Ok("inproc://kv_dp2")),
            ("ipc:///a", 0, Ok("ipc:///a")),
            ("ipc:///a", 1, Err("needs a tcp port")),
            ("tcp://h:65535", 1, Err("above 65535")),
            ("tcp://h:65535", u32::MAX, Err("above 65535")),
        ];
        for (endpoint, rank, expected) in table {
            match (with_rank(endpoint, rank), expected) {
                (Ok(got), Ok(want)) => assert_eq!(got, want),
                (Err(got), Err(want)) => assert!(got.what.contains(want), "{got}"),
                (got, want) => panic!("{endpoint} + {rank}: {got:?}, not {want:?}"),
            }
        }
    }
}
