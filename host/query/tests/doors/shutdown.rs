use crate::room::{House, answer, query, until};
use penstock_query::client::{HttpClient, ZmqClient};
use penstock_query::{Code, Doors, DoorsConfig, QueryError};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[test]
fn what_is_under_way_is_finished_and_what_comes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ctl");
    let mut house = House::with(|c| c.control = Some(path.clone()));
    let (url, zmq) = (house.url(), house.zmq());
    let doors = house.doors.take().unwrap();
    let address = doors.addresses().http.unwrap();
    let room = house.room.clone();
    std::thread::scope(|s| {
        let over_http = s.spawn(|| HttpClient::new(&url).query(None, &query("kept", &[1])));
        let mut client = ZmqClient::connect(&zmq).unwrap();
        let first = client.send(None, &query("kept", &[1])).unwrap();
        until("both lookups", || room.kept() == 2);
        let closing = s.spawn(|| doors.shutdown(Duration::from_secs(30)));
        until("the HTTP door shut", || {
            TcpStream::connect(address).is_err()
        });
        // The doors shut one after the other.
        until("the ZeroMQ door shut", || {
            let second = client.send(None, &query("m", &[1])).unwrap();
            let (id, answer) = client.receive(Duration::from_secs(10)).unwrap();
            assert_eq!(id, second);
            answer.is_err_and(|refused| refused.code == Code::Closing)
        });
        for kept in room.kept.lock().unwrap().drain(..) {
            (kept.reply)(Ok(answer(5)));
        }
        let (id, answered) = client.receive(Duration::from_secs(10)).unwrap();
        assert_eq!((id, answered.unwrap().instances["a"].gpu), (first, 5));
        assert_eq!(over_http.join().unwrap().unwrap().instances["a"].gpu, 5);
        assert!(closing.join().unwrap(), "everything ended by itself");
    });
    assert!(!path.exists(), "the control socket's file goes with it");
}

#[test]
fn shutdown_is_bounded_when_a_plugin_hangs() {
    let mut house = House::open();
    let (url, zmq) = (house.url(), house.zmq());
    let doors = house.doors.take().unwrap();
    let room = house.room.clone();
    std::thread::scope(|s| {
        let over_http = s.spawn(|| HttpClient::new(&url).query(None, &query("kept", &[1])));
        let mut client = ZmqClient::connect(&zmq).unwrap();
        client.send(None, &query("kept", &[1])).unwrap();
        until("both lookups", || room.kept() == 2);
        let begun = Instant::now();
        assert!(!doors.shutdown(Duration::from_millis(100)));
        assert!(begun.elapsed() < Duration::from_secs(3));
        let (_, refused) = client.receive(Duration::from_secs(10)).unwrap();
        assert_eq!(refused.unwrap_err().code, Code::Closing);
        match over_http.join().unwrap() {
            Err(QueryError::Unreachable { .. }) => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn an_address_in_use_opens_no_door() {
    let house = House::open();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ctl");
    let base = DoorsConfig {
        http: None,
        zmq: None,
        control: Some(path.clone()),
        ..DoorsConfig::default()
    };
    let taken_http = DoorsConfig {
        http: house.doors().addresses().http,
        ..base.clone()
    };
    let taken_zmq = DoorsConfig {
        zmq: Some(house.zmq()),
        ..base
    };
    for (config, wanted) in [(taken_http, "http"), (taken_zmq, "zmq")] {
        let room = house.room.clone();
        match Doors::start(config, room.clone(), room, house.runtime.handle()) {
            Err(QueryError::Open { door, .. }) => assert_eq!(door, wanted),
            other => panic!("{:?}", other.err()),
        }
        assert!(!path.exists());
    }
}
