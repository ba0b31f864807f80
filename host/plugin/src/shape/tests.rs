use super::*;

/// The host's own interfaces, changed in text first.
fn changed(file: &str, from: &str, to: &str) -> Shape {
    let mut sources = SourceMap::new();
    for (name, text) in wit() {
        let text = match name == file {
            true => {
                assert!(text.contains(from), "{file} has no {from:?}");
                text.replace(from, to)
            }
            false => text.to_owned(),
        };
        sources.push_str(name, text);
    }
    let mut resolve = Resolve::new();
    let group = sources.parse().map_err(|(_, e)| e).unwrap();
    let package = resolve.push_group(group).unwrap();
    let world = resolve.select_world(&[package], Some(EVERYTHING)).unwrap();
    Shape::read(&resolve, world)
}

#[test]
fn differences_name_function_parameter_and_field() {
    assert_eq!(Shape::ours().unwrap().differences(), [""; 0]);
    for (file, from, to, said) in [
        (
            "guest.wit",
            "    skipped: u32,\n",
            "",
            "parameter `batch` of guest.on-batch differs: batch lacks the field `skipped` (u32)",
        ),
        (
            "guest.wit",
            "sequence: u64",
            "sequence: u32",
            "parameter `batch` of guest.on-batch differs: batch.sequence is u32, this host has u64",
        ),
        (
            "guest.wit",
            "hashes: list<u64>,\n    /// One a block: XXH3",
            "hashes: list<string>,\n    /// One a block: XXH3",
            "parameter `batch` of guest.on-batch differs: each of batch.hashes is string, \
             this host has u64",
        ),
        (
            "guest.wit",
            "init: func(config: string)",
            "init: func(config: string, more: u8)",
            "parameter `more` of guest.init is one too many",
        ),
        (
            "guest.wit",
            "init: func(config: string)",
            "init: func()",
            "parameter `config` of guest.init is missing",
        ),
        (
            "tick.wit",
            "interval: func() -> u32",
            "interval: func()",
            "the result of tick.interval differs: nothing is returned, this host expects u32",
        ),
        (
            "tick.wit",
            "interval: func() -> u32",
            "pause: func() -> u32",
            "tick.interval is not exported",
        ),
        (
            "host.wit",
            "now: func() -> s64",
            "today: func() -> s64",
            "clock.today is imported, and this host does not have it",
        ),
        (
            "package.wit",
            "@0.1.0",
            "@0.2.0",
            "guest was built for penstock:plugin 0.2.0, this host has 0.1.0",
        ),
    ] {
        let found = changed(file, from, to).differences();
        assert!(found.iter().any(|d| d == said), "{said}: {found:#?}");
    }
}

#[test]
fn patches_of_a_version_fit() {
    assert_eq!(
        changed("package.wit", "@0.1.0", "@0.1.7").differences(),
        [""; 0]
    );
}

#[test]
fn what_comes_and_goes_is_told() {
    let ours = Shape::ours().unwrap();
    let mut less = ours.clone();
    less.exports.retain(|name, _| !name.contains("/state@"));
    assert_eq!(
        less.changes(&ours),
        ["no longer exports penstock:plugin/state@0.1.0"]
    );
    assert_eq!(
        ours.changes(&less),
        ["exports penstock:plugin/state@0.1.0, which the older build does not"]
    );
}

#[test]
fn damaged_files_have_no_shape() {
    for bytes in [&b""[..], b"#!/bin/sh", b"\0asm\x0d\0\x01\0garbage"] {
        assert!(Shape::of(bytes).is_err());
        assert!(producers(bytes).is_empty());
    }
}
