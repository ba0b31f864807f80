//! The secret that plugins' hash seeds are made of. It is kept with the checkpoints:
//! what a plugin had hashed then must fit what it hashes now.

use anyhow::{Context, Result};
use std::io::Write;
use std::path::Path;

/// Name of its file: 32 hexadecimal digits.
const FILE: &str = "hash-key";

/// The key of a state directory, made if there is none. Where it cannot be kept, what is
/// in checkpoints may be of no use after a restart, and nothing else.
pub fn hash_key(state_dir: &Path) -> u128 {
    let path = state_dir.join(FILE);
    let known = std::fs::read_to_string(&path).ok();
    if let Some(key) = known.and_then(|text| u128::from_str_radix(text.trim(), 16).ok()) {
        return key;
    }
    let key = rand::random();
    if let Err(error) = keep(state_dir, &path, key) {
        tracing::warn!("the key of plugins' hashes is not kept: {error:#}");
    }
    key
}

fn keep(state_dir: &Path, path: &Path, key: u128) -> Result<()> {
    // Readable by nobody else, as all temporary files.
    let file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(state_dir);
    let mut file = file.with_context(|| format!("{}", state_dir.display()))?;
    writeln!(file, "{key:032x}")?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_again_when_it_is_damaged() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let key = hash_key(home.path());
        assert_eq!(hash_key(home.path()), key);
        let path = home.path().join(FILE);
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
        std::fs::write(&path, "no key").unwrap();
        let other = hash_key(home.path());
        assert_ne!(other, key);
        assert_eq!(hash_key(home.path()), other);
    }
}
