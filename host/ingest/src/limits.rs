//! Descriptors. A source takes about four: its socket, its monitor's two ends and
//! the connection.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// Raises the soft limit on open descriptors to the hard one. Returns the soft
/// limit before and after; `u64::MAX` stands for unlimited.
///
/// # Errors
/// The system refused; the limit is as before.
pub fn raise_descriptor_limit() -> io::Result<(u64, u64)> {
    let before = getrlimit(Resource::Nofile);
    let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    if number(before.current) < number(before.maximum) {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: before.maximum,
                maximum: before.maximum,
            },
        )?;
    }
    let after = getrlimit(Resource::Nofile);
    Ok((number(before.current), number(after.current)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_reaches_the_hard_one() {
        let (before, after) = raise_descriptor_limit().unwrap();
        assert!(after >= before);
        assert_eq!(
            getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
            after
        );
    }
}
