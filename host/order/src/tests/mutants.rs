//! Each fault of [`Mutant`] must be noticed in the same sequences, by the same checks.

use super::properties::{SEQUENCES, run};
use crate::mutant::Mutant;

#[test]
fn every_mutant_is_caught() {
    let mut escaped = Vec::new();
    for mutant in Mutant::ALL {
        let caught = (0..SEQUENCES).find(|seed| run(*seed, Some(*mutant), false).0.is_err());
        match caught {
            Some(seed) => println!("{mutant:?}: caught by sequence {seed}"),
            None => escaped.push(mutant),
        }
    }
    assert!(Mutant::ALL.len() >= 10);
    assert!(escaped.is_empty(), "escaped: {escaped:?}");
}
