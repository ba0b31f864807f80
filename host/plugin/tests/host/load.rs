//! What is loaded, what is not, and what the operator is told.

use crate::common::{HOST, candidate, compile, guest, hostile, setup};
use penstock_event::ColumnSet;
use penstock_plugin::{Candidate, Features, Grant, Grants, Limits};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn components_with_none_one_and_all_of_the_optional_interfaces_load() {
    let none = compile("base", &Grants::none()).unwrap();
    assert_eq!(none.summary.features, Features::default());
    assert!(none.summary.imports.is_empty());
    let one = compile("indexer", &Grants::none()).unwrap();
    let lookup = Features {
        lookup: true,
        ..Features::default()
    };
    assert_eq!(one.summary.features, lookup);
    let all = hostile();
    let every = Features {
        lookup: true,
        request: true,
        tick: true,
        state: true,
    };
    assert_eq!(all.summary.features, every);
    // Made before there was `emit`: a later interface is no concern of older plugins.
    assert_eq!(all.summary.imports.len(), Grant::ALL.len() - 1);
    for compiled in [none, one, all] {
        assert!(compiled.summary.digest.starts_with("sha256:"));
        assert_eq!(compiled.summary.digest.len(), 7 + 64);
        let setup = setup(Limits::default(), &Arc::default(), "{}");
        Candidate::prepare(&HOST, &compiled, &setup).unwrap();
    }
}

#[test]
fn description_is_read_and_unknown_columns_are_dropped() {
    let candidate = candidate(Limits::default(), "{}").unwrap();
    let said = &candidate.description;
    assert_eq!(
        (said.name.as_str(), said.version.as_str()),
        ("hostile", "2.0")
    );
    assert_eq!(
        said.columns,
        ColumnSet::TOKEN_HASHES.union(ColumnSet::PAYLOAD)
    );
    assert_eq!(said.state_schema, 3);
}

#[test]
fn what_is_wrong_with_a_file_is_said_in_the_operators_terms() {
    let whole = guest("base");
    let core = b"\0asm\x01\0\0\0".to_vec();
    let half = whole[..whole.len() / 2].to_vec();
    let mut flipped = whole.clone();
    flipped
        .iter_mut()
        .skip(40)
        .step_by(97)
        .for_each(|b| *b ^= 0x55);
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("empty", Vec::new(), "the file is empty"),
        ("not_wasm", b"{\"a\": 1}".to_vec(), "not WebAssembly"),
        ("core_module", core, "build it with --target wasm32-wasip2"),
        ("damaged", half, "half written or damaged"),
        ("damaged", flipped, "half written or damaged"),
        (
            "not_a_plugin",
            guest("stranger"),
            "does not export penstock:plugin/guest",
        ),
        (
            "version",
            guest("future"),
            "built for penstock:plugin@0.2.0, this host has 0.1.0",
        ),
        (
            "unknown_import",
            guest("foreign"),
            "imports database, which this host does not have",
        ),
        (
            "interface",
            guest("misfit"),
            "does not fit penstock:plugin@0.1.0",
        ),
    ];
    for (code, bytes, words) in cases {
        let load = HOST.compile(&bytes, &Grants::all(), &Limits::default());
        let setup = setup(Limits::default(), &Arc::default(), "{}");
        let load = load.and_then(|c| Candidate::prepare(&HOST, &c, &setup));
        let error = load.expect_err(words);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_missing_grant_refuses_and_names_import_and_key() {
    for missing in Grant::ALL.into_iter().filter(|g| *g != Grant::Emit) {
        let grants: Grants = Grant::ALL.into_iter().filter(|g| *g != missing).collect();
        let error = compile("hostile", &grants).unwrap_err().to_string();
        let name = missing.name();
        assert!(
            error.contains(&format!("penstock:plugin/{name}@0.1.0")),
            "{error}"
        );
        assert!(
            error.contains(&format!("add \"{name}\" to `grants`")),
            "{error}"
        );
    }
    // Compiled with the grants of before, prepared with those of now.
    let setup = penstock_plugin::Setup::new(
        "hostile",
        Limits::default(),
        Grants::default(),
        None,
        Default::default(),
    );
    let error = Candidate::prepare(&HOST, &hostile(), &setup).unwrap_err();
    assert_eq!(error.code(), "not_granted");
}

#[test]
fn memory_asked_at_the_start_is_held_against_the_limit() {
    let limits = Limits {
        memory_bytes: 1 << 20,
        ..Limits::default()
    };
    let error = HOST
        .compile(&guest("hostile"), &Grants::all(), &limits)
        .unwrap_err();
    assert_eq!(error.code(), "memory");
    assert!(error.to_string().contains("memory_bytes"), "{error}");
}

#[test]
fn init_that_traps_loops_sleeps_or_refuses_ends_in_time_and_says_why() {
    let limits = Limits {
        init_deadline_ms: 50,
        ..Limits::default()
    };
    let cases = [
        (
            r#"{"trap":1}"#,
            "`init` failed: trap",
            "it said: about to die",
        ),
        (
            r#"{"loop":1}"#,
            "`init` failed: missed its deadline of 50ms",
            "",
        ),
        (
            r#"{"sleep":1}"#,
            "`init` failed: missed its deadline of 50ms",
            "",
        ),
        (r#"{"error":1}"#, "`init` refused the config: told so", ""),
    ];
    for (config, what, words) in cases {
        let begun = Instant::now();
        let error = candidate(limits.clone(), config).unwrap_err().to_string();
        assert!(
            error.contains(what) && error.contains(words),
            "{config}: {error}"
        );
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{config}: {:?}",
            begun.elapsed()
        );
    }
}
