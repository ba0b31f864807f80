//! `penstock plugin`: a plugin from nothing to a running daemon, by the commands alone.

mod differs;
mod hostile;
mod live;
mod made;

use crate::rig::run;
use penstock_testkit::{binary, target};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

/// One crate at a time: two cargos would wait for each other's target directory anyhow.
static CARGO: Mutex<()> = Mutex::new(());

/// A new plugin's crate, outside of this repository. Its folder is the same in every run,
/// and so is where cargo builds: what it depends on is compiled once.
pub struct Crate {
    pub home: PathBuf,
    name: String,
    _turn: MutexGuard<'static, ()>,
}

/// What a command did: its code, and what it wrote.
pub struct Did {
    pub code: Option<i32>,
    pub out: String,
    pub error: String,
}

/// Runs a command of the kit somewhere.
pub fn plugin(home: &Path, arguments: &[&str]) -> Did {
    did(run(home, &[&["plugin"], arguments].concat()))
}

fn did(output: std::process::Output) -> Did {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Did {
        code: output.status.code(),
        out: text(&output.stdout),
        error: text(&output.stderr),
    }
}

// === impl Crate ===

impl Crate {
    /// `penstock plugin new`, for a name that no other test uses.
    pub fn new(name: &str, kind: &str) -> Self {
        let turn = CARGO.lock().unwrap_or_else(|e| e.into_inner());
        // Two checkouts on one machine do not share a folder.
        let checkout = penstock_event::digest(target().to_string_lossy().as_bytes());
        let above = std::env::temp_dir().join(format!("penstock-kit-{checkout:016x}"));
        let home = above.join(name);
        if home.exists() {
            std::fs::remove_dir_all(&home).unwrap();
        }
        std::fs::create_dir_all(&above).unwrap();
        let made = plugin(&above, &["new", name, "--kind", kind]);
        assert_eq!(made.code, Some(0), "{}", made.error);
        Self {
            home,
            name: name.into(),
            _turn: turn,
        }
    }

    /// Any program, in the crate, with the shared target directory.
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Did {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(&self.home)
            .env("CARGO_TARGET_DIR", target().join("kit"));
        did(command.output().unwrap())
    }

    /// A command of the kit, in the crate.
    pub fn plugin(&self, arguments: &[&str]) -> Did {
        self.command(&binary(), &[&["plugin"], arguments].concat())
    }

    /// `penstock plugin build`, which is to work: what it says, and the component.
    pub fn build(&self) -> (Value, PathBuf) {
        let did = self.plugin(&["build", "--json"]);
        assert_eq!(did.code, Some(0), "{}", did.error);
        let built: Value = serde_json::from_str(&did.out).unwrap();
        let component = PathBuf::from(built["component"].as_str().unwrap());
        (built, component)
    }

    /// A file of the crate.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.home.join(name)).unwrap()
    }

    /// Changes a file of the crate.
    pub fn replace(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no {from:?}");
        std::fs::write(self.home.join(name), text.replace(from, to)).unwrap();
    }

    /// Its `NAME.toml`.
    pub fn toml(&self) -> String {
        self.read(&format!("{}.toml", self.name))
    }
}
