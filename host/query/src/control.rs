//! The control socket: an operator on this machine, through a file that only
//! the daemon's user may open (mode 0600).
//!
//! The protocol fits `nc -U`: a line with one word (`status`, `plugins`,
//! `sources` or `reload`), or `rollback PLUGIN` or `restart PLUGIN`, is answered by one line of JSON, `{"ok": …}` or
//! `{"error": "…", "code": "…"}`; then the next line may come. A socket file left
//! by a dead process is replaced; one that answers is an error, and so is a file
//! that is no socket.

use crate::doors::told;
use crate::{Code, Control, ErrorBody, QueryError, Turn};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::Serialize;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Connections at once; further ones wait.
const MOST: usize = 16;

/// Bytes of a request line.
const MAX_LINE: u64 = 256;

/// How long a connection may say nothing, or not read.
const IDLE: Duration = Duration::from_secs(30);

/// The bound socket. Its file is removed with it, if it is still the same file.
pub(crate) struct ControlSocket {
    listener: std::os::unix::net::UnixListener,
    file: SocketFile,
}

/// The socket's file, known again by device and inode.
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

#[derive(Serialize)]
struct Good<T> {
    ok: T,
}

// === impl ControlSocket ===

impl ControlSocket {
    pub(crate) fn bind(path: &Path) -> Result<Self, QueryError> {
        let failed = |source: io::Error| QueryError::Open {
            door: "control",
            address: path.display().to_string(),
            source,
        };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // Of two daemons that start at once, the second waits here and then
        // finds the first one's socket alive. The lock ends with the handle.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock = rustix::fs::open(folder, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
        clear_stale(path, failed)?;
        let listener = bind_private(path).map_err(|e| failed(e.into()))?;
        let file = SocketFile::of(path).map_err(failed)?;
        Ok(Self { listener, file })
    }

    /// Splits into what the async side serves and the file to be removed.
    pub(crate) fn into_parts(self) -> (std::os::unix::net::UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

/// Removes a socket that nobody answers on.
fn clear_stale(path: &Path, failed: impl Fn(io::Error) -> QueryError) -> Result<(), QueryError> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(QueryError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match StdStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::warn!(path = %path.display(), "control: replacing a dead process's socket");
            std::fs::remove_file(path).map_err(failed)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        // Alive, or not to be known: better not to remove it.
        Ok(_) | Err(_) => Err(QueryError::InUse {
            path: path.to_owned(),
        }),
    }
}

/// Binds with mode 0600 from the first moment: Linux takes the mode of a new
/// socket file from the socket itself, less the umask.
fn bind_private(path: &Path) -> rustix::io::Result<std::os::unix::net::UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let private = Mode::RUSR | Mode::WUSR;
    rustix::fs::fchmod(&socket, private)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::fs::chmod(path, private)?;
    rustix::net::listen(&socket, 64)?;
    Ok(socket.into())
}

// === impl SocketFile ===

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let found = std::fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            identity: (found.dev(), found.ino()),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = Self::same(&self.path, self.identity);
        if ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl SocketFile {
    fn same(path: &Path, identity: (u64, u64)) -> bool {
        std::fs::symlink_metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == identity)
    }
}

// === serving ===

/// Serves until `stop` turns true. Commands under way are finished by whoever
/// waits for this future.
pub(crate) async fn serve(
    listener: UnixListener,
    control: Arc<dyn Control>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(MOST));
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let (stream, place) = tokio::select! {
            () = told(&mut stop) => break,
            accepted = accepted => match accepted {
                Some((Ok((stream, _)), place)) => (stream, place),
                Some((Err(e), _)) => {
                    tracing::warn!(error = %e, "control: cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
                None => break,
            },
        };
        let control = Arc::clone(&control);
        let stop = stop.clone();
        open.spawn(async move {
            if let Err(e) = converse(stream, control, stop).await {
                tracing::debug!(error = %e, "control: connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

async fn converse(
    stream: UnixStream,
    control: Arc<dyn Control>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = String::new();
    loop {
        line.clear();
        let mut bounded = (&mut read).take(MAX_LINE);
        let got = tokio::select! {
            got = tokio::time::timeout(IDLE, bounded.read_line(&mut line)) => got,
            () = told(&mut stop) => return Ok(()),
        };
        match got {
            Ok(Ok(0)) | Err(_) => return Ok(()),
            Ok(Ok(_)) => {}
            Ok(Err(e)) => return Err(e),
        }
        let whole = line.ends_with('\n');
        let word = line.trim().to_owned();
        let control = Arc::clone(&control);
        let reply = tokio::task::spawn_blocking(move || obey(control.as_ref(), &word))
            .await
            .unwrap_or_else(|_| {
                let error = ErrorBody::new(Code::Internal, "the daemon failed on this command");
                line_of(&error)
            });
        tokio::time::timeout(IDLE, write.write_all(&reply)).await??;
        if !whole {
            // A line cut at the limit, or the client has closed its side.
            return Ok(());
        }
    }
}

/// One command, one line.
fn obey(control: &dyn Control, word: &str) -> Vec<u8> {
    match word {
        "status" => line_of(&Good {
            ok: control.status(),
        }),
        "plugins" => line_of(&Good {
            ok: control.plugins(),
        }),
        "sources" => line_of(&Good {
            ok: control.sources(),
        }),
        "reload" => match control.reload() {
            Ok(ok) => line_of(&Good { ok }),
            Err(e) => line_of(&ErrorBody::from(e)),
        },
        _ => {
            let back = word.strip_prefix("rollback ").map(|p| (p, Turn::Back));
            let restart = word.strip_prefix("restart ").map(|p| (p, Turn::Restart));
            match back.or(restart) {
                Some((plugin, turn)) => match control.turn(plugin.trim(), turn) {
                    Ok(ok) => line_of(&Good { ok }),
                    Err(e) => line_of(&ErrorBody::from(e)),
                },
                None => line_of(&ErrorBody::bad(
                    "expected status, plugins, sources, reload, rollback PLUGIN or \
                     restart PLUGIN",
                )),
            }
        }
    }
}

fn line_of(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_else(|e| {
        tracing::error!(error = %e, "control: a reply cannot be written");
        br#"{"error":"the reply cannot be written","code":"internal"}"#.to_vec()
    });
    line.push(b'\n');
    line
}
