use crate::room::House;
use penstock_query::client::ControlClient;
use penstock_query::{Code, Doors, DoorsConfig, QueryError};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

fn house(path: &Path) -> House {
    House::with(|c| c.control = Some(path.to_owned()))
}

fn client(path: &Path) -> ControlClient {
    ControlClient::new(path, Duration::from_secs(10))
}

#[test]
fn the_client_sees_and_reloads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ctl");
    let house = house(&path);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = client(&path);
    let status = client.status().unwrap();
    assert_eq!(status.pid, std::process::id());
    assert_eq!(status.sources, client.sources().unwrap());
    let plugins = client.plugins().unwrap();
    assert_eq!(plugins[0].load_error.as_deref(), Some("not a component"));
    match client.reload() {
        Err(QueryError::Refused(e)) => assert_eq!((e.code, &*e.error), (Code::Internal, "not yet")),
        other => panic!("{other:?}"),
    }
    house.open_all_gates();
    assert_eq!(client.reload().unwrap().changed, ["index"]);
}

#[test]
fn one_connection_takes_many_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ctl");
    let _house = house(&path);
    let stream = UnixStream::connect(&path).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    for (word, wanted) in [
        ("plugins", "{\"ok\":[{\"name\":\"index\""),
        ("frobnicate", "{\"error\":\"expected status, "),
        (
            "rollback index",
            "{\"ok\":{\"plugin\":\"index\",\"generation\":1}",
        ),
        (
            "restart index",
            "{\"ok\":{\"plugin\":\"index\",\"generation\":2}",
        ),
        ("rollback other", "{\"error\":\"no plugin is called"),
        ("  sources ", "{\"ok\":[{\"name\":\"a/dp0\""),
    ] {
        (&stream).write_all(format!("{word}\n").as_bytes()).unwrap();
        let line = lines.next().unwrap().unwrap();
        assert!(line.starts_with(wanted), "{line}");
    }
    // A line without an end is refused, and the connection closed.
    (&stream).write_all(&[b'x'; 300]).unwrap();
    let line = lines.next().unwrap().unwrap();
    assert!(line.starts_with("{\"error\""));
    assert!(!matches!(lines.next(), Some(Ok(_))));
}

#[test]
fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ctl");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead process leaves its socket");
    let first = house(&path);
    client(&path).status().unwrap();

    let config = DoorsConfig {
        http: None,
        zmq: None,
        control: Some(path.clone()),
        ..DoorsConfig::default()
    };
    let start = |config: &DoorsConfig| {
        let room = first.room.clone();
        Doors::start(config.clone(), room.clone(), room, first.runtime.handle())
    };
    match start(&config) {
        Err(QueryError::InUse { path: in_use }) => assert_eq!(in_use, path),
        other => panic!("{:?}", other.err()),
    }
    client(&path).status().unwrap();

    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let config = DoorsConfig {
        control: Some(file.clone()),
        ..config
    };
    assert!(matches!(start(&config), Err(QueryError::NotASocket { .. })));
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");

    let config = DoorsConfig {
        control: Some(folder.path().join("none/ctl")),
        ..config
    };
    assert!(matches!(start(&config), Err(QueryError::Open { .. })));
}

#[test]
fn nobody_there_is_said() {
    let folder = tempfile::tempdir().unwrap();
    match client(&folder.path().join("none")).status() {
        Err(QueryError::Unreachable { .. }) => {}
        other => panic!("{other:?}"),
    }
}
