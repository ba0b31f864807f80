//! All doors together: opened in one call, closed in one.

use crate::control::{self, ControlSocket, SocketFile};
use crate::http::{self, Shared};
use crate::router::RouterDoor;
use crate::{Control, DoorsConfig, Heartbeats, Lookups, QueryError, RouterTotals};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Where the open doors are, with the ports that the system chose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// HTTP.
    pub http: Option<SocketAddr>,
    /// ZeroMQ ROUTER.
    pub zmq: Option<String>,
    /// Control socket.
    pub control: Option<PathBuf>,
}

/// The open doors. Dropping them closes them at once; see [`Doors::shutdown`].
pub struct Doors {
    addresses: Addresses,
    beats: Heartbeats,
    stop: watch::Sender<bool>,
    tasks: Vec<AsyncDoor>,
    router: Option<RouterDoor>,
    _control_file: Option<SocketFile>,
}

/// A door on the async runtime.
struct AsyncDoor {
    name: &'static str,
    abort: AbortHandle,
    ended: Mutex<mpsc::Receiver<()>>,
}

/// A loop of the doors that has not turned for this long is stuck.
const STUCK: Duration = Duration::from_secs(5);

// === impl Doors ===

impl Doors {
    /// Opens every door that has an address: all of them, or none and an error.
    /// The HTTP and control doors run on `runtime`, the ZeroMQ door on a thread
    /// of its own. The metrics recorder, if any, must be installed before.
    ///
    /// # Errors
    /// [`QueryError`]: a value out of range, an address that cannot be bound, a
    /// control socket in use.
    pub fn start(
        config: DoorsConfig,
        lookups: Arc<dyn Lookups>,
        control: Arc<dyn Control>,
        runtime: &Handle,
    ) -> Result<Self, QueryError> {
        config.validate()?;
        let _within = runtime.enter();
        let beats = Heartbeats::default();
        let (stop, stopped) = watch::channel(false);
        let mut doors = Self {
            addresses: Addresses::default(),
            beats: beats.clone(),
            stop,
            tasks: Vec::new(),
            router: None,
            _control_file: None,
        };
        let http = config.http.map(bind_http).transpose()?;
        let socket = config
            .control
            .as_deref()
            .map(ControlSocket::bind)
            .transpose()?;
        if let Some(endpoint) = &config.zmq {
            let beat = beats.watch("query-zmq", STUCK);
            let (lookups, control) = (Arc::clone(&lookups), Arc::clone(&control));
            let router = RouterDoor::open(endpoint, &config, lookups, control, beat)?;
            doors.addresses.zmq = Some(router.endpoint.clone());
            doors.router = Some(router);
        }
        if let Some(socket) = socket {
            let (listener, file) = socket.into_parts();
            doors.addresses.control = Some(file.path().to_owned());
            let listener = UnixListener::from_std(listener)
                .map_err(|source| open_error("control", file.path().display(), source))?;
            doors._control_file = Some(file);
            let serving = control::serve(listener, Arc::clone(&control), stopped.clone());
            doors
                .tasks
                .push(AsyncDoor::spawn("control", runtime, serving));
        }
        if let Some((listener, address)) = http {
            doors.addresses.http = Some(address);
            let most = config.max_connections;
            let shared = Shared::new(config, lookups, control, beats);
            let serving = http::serve(listener, http::routes(Arc::new(shared)), most, stopped);
            doors.tasks.push(AsyncDoor::spawn("http", runtime, serving));
        }
        Ok(doors)
    }

    /// Where the doors are.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The doors' own loops; `GET /health` includes them.
    #[must_use]
    pub fn heartbeats(&self) -> &Heartbeats {
        &self.beats
    }

    /// What the ZeroMQ door has counted.
    #[must_use]
    pub fn router_totals(&self) -> Option<Arc<RouterTotals>> {
        self.router.as_ref().map(|door| Arc::clone(&door.totals))
    }

    /// Takes no new connections, tells new ZeroMQ requests `closing`, and waits
    /// at most `deadline` (and half a second of linger) for what is under way.
    /// Blocks: call it from a thread of your own, not from async code. True when
    /// everything ended by itself.
    pub fn shutdown(mut self, deadline: Duration) -> bool {
        let until = Instant::now() + deadline;
        self.stop.send_replace(true);
        if let Some(router) = &self.router {
            router.stop(until);
        }
        let mut clean = true;
        for door in &mut self.tasks {
            let left = until.saturating_duration_since(Instant::now());
            let ended = door.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
            if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(left) {
                tracing::warn!(door = door.name, "requests were cut off at shutdown");
                door.abort.abort();
                clean = false;
            }
        }
        if let Some(router) = &mut self.router
            && !router.join(until)
        {
            tracing::error!("the ZeroMQ door did not end in time");
            clean = false;
        }
        clean
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for door in &self.tasks {
            door.abort.abort();
        }
    }
}

// === impl AsyncDoor ===

impl AsyncDoor {
    fn spawn(
        name: &'static str,
        runtime: &Handle,
        serving: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let (end, ended) = mpsc::channel();
        let task = runtime.spawn(async move {
            serving.await;
            let _ = end.send(());
        });
        Self {
            name,
            abort: task.abort_handle(),
            ended: Mutex::new(ended),
        }
    }
}

/// Until the doors close, or whoever could close them is gone.
pub(crate) async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn bind_http(address: SocketAddr) -> Result<(TcpListener, SocketAddr), QueryError> {
    let bind = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        Ok((TcpListener::from_std(listener)?, bound))
    };
    bind().map_err(|source| open_error("http", address, source))
}

fn open_error(
    door: &'static str,
    address: impl std::fmt::Display,
    source: std::io::Error,
) -> QueryError {
    QueryError::Open {
        door,
        address: address.to_string(),
        source,
    }
}
