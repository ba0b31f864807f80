//! The author's guide in plugins/README.md, run as it stands.
//!
//! Of its first section: blocks whose first line names a file in a comment are written
//! there, `sh` blocks are run in one shell, and what stands in a plain block behind one
//! is what it prints, at last. Ports are replaced by free ones.

use penstock_testkit::daemon::PATIENCE;
use penstock_testkit::{root, target};
use std::fmt::Write;
use std::net::TcpListener;
use std::process::Command;

const SECTION: &str = "## From nothing to a plugin that runs";

/// A fenced block: its language and its text.
struct Block<'a> {
    language: &'a str,
    text: &'a str,
}

fn blocks(section: &str) -> Vec<Block<'_>> {
    let parts: Vec<&str> = section.split("\n```").collect();
    assert_eq!(parts.len() % 2, 1, "a block without an end");
    let inside = parts.iter().skip(1).step_by(2);
    inside
        .map(|part| {
            let (language, text) = part.split_once('\n').unwrap_or((part, ""));
            Block { language, text }
        })
        .collect()
}

/// The file that a block's first line names: `// src/lib.rs`, `# penstock.toml`.
fn file_of(text: &str) -> Option<&str> {
    let first = text.lines().next()?;
    let name = first.strip_prefix("// ").or(first.strip_prefix("# "))?;
    (name.contains('.') && !name.contains(' ')).then_some(name)
}

/// The blocks as one script.
fn script(section: &str) -> String {
    let mut script = String::from("set -eo pipefail\ntrap 'kill $(jobs -p) || true' EXIT\n");
    // Versions are this repository's, and so is much of what has been compiled already.
    script += "keep() { if [ -f Cargo.toml ] && [ ! -e target ] && [ \"$PWD\" != \"$REPO\" ]; \
               then ln -s \"$KEPT\" target; cp \"$REPO/Cargo.lock\" .; fi; }\n";
    let blocks = blocks(section);
    for (at, block) in blocks.iter().enumerate() {
        let text = block.text;
        let printed = blocks.get(at + 1).filter(|next| next.language.is_empty());
        match (block.language, file_of(text), printed) {
            ("sh", _, None) => writeln!(script, "set -x\n{text}\n{{ set +x; }} 2>&-\nkeep"),
            ("sh", _, Some(printed)) => writeln!(
                script,
                "end=$((SECONDS + {}))\nuntil out=$({text}\n) && [ \"$out\" = '{}' ]; do\n\
                 if [ $SECONDS -gt $end ]; then echo \"block {at} prints: $out\"; exit 1; fi\n\
                 sleep 0.2\ndone\necho \"block {at} prints: $out\"",
                PATIENCE.as_secs(),
                printed.text
            ),
            ("rust" | "toml", Some(file), _) => {
                writeln!(script, "cat > {file} <<'END-OF-FILE'\n{text}\nEND-OF-FILE")
            }
            ("", ..) => Ok(()),
            (language, ..) => panic!("block {at} of {language:?}: neither run nor written"),
        }
        .unwrap();
    }
    script
}

#[test]
#[ignore = "compiles for a minute: cargo xtask test --only guide"]
fn the_authors_guide_holds() {
    let readme = std::fs::read_to_string(root().join("plugins/README.md")).unwrap();
    let section = readme.split(SECTION).nth(1).expect(SECTION);
    let section = section.split("\n## ").next().unwrap();
    let mut script = script(section);
    for port in ["7780", "5557", "6557"] {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let free = free.local_addr().unwrap().port().to_string();
        assert!(script.contains(port), "{port}");
        script = script.replace(port, &free);
        if port == "7780" {
            script.insert_str(
                0,
                &format!("export PENSTOCK_QUERY__HTTP=127.0.0.1:{free}\n"),
            );
        }
    }
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new("bash");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("PENSTOCK_") || name.starts_with("CARGO_PKG") {
            command.env_remove(&*name);
        }
    }
    let output = command
        .args(["-c", &script])
        .current_dir(root())
        .env("TMPDIR", home.path())
        .env("KEPT", target())
        .env("PENSTOCK_QUERY__ZMQ", "tcp://127.0.0.1:*")
        .env("PENSTOCK_CACHE_DIR", target().join("cache"))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{error}\n{script}");
    // It went all the way, and the state was why.
    assert_eq!(out.matches("prints: {\"none\":568}").count(), 2, "{out}");
    assert!(error.contains("state taken over"), "{error}");
}
