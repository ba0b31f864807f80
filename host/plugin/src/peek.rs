//! What can be read off a file without compiling it.

use sha2::{Digest, Sha256};
use wasmparser::{Parser, Payload};

/// True when the component exports an interface of ours by this name. Damaged
/// files export nothing: loading them says what is wrong.
#[must_use]
pub fn exports(bytes: &[u8], interface: &str) -> bool {
    let wanted = format!("penstock:plugin/{interface}@");
    // Components and modules lie within components; ours are the outermost's.
    let mut depth = 0_i32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth -= 1,
            Ok(Payload::ComponentExportSection(section)) if depth == 0 => {
                let found = section.into_iter().flatten();
                if found.into_iter().any(|e| e.name.name.starts_with(&wanted)) {
                    return true;
                }
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

/// The SHA-256 of a file, in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_export_nothing() {
        assert!(!exports(b"", "guest"));
        assert!(!exports(b"\0asm\x0d\0\x01\0garbage", "guest"));
    }

    #[test]
    fn digests_are_those_of_sha256sum() {
        assert!(sha256(b"").starts_with("e3b0c44298fc1c14"));
    }
}
