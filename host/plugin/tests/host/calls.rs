//! One instance, and everything a guest can do to it.

use crate::common::{Counters, batch, instance, joined, query, source};
use penstock_event::{Batch, Epoch};
use penstock_event::{By, Change, GapReason, NameKind, PublishError, ResetReason, SourceId};
use penstock_plugin::{CallError, Limits, Refusal};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

fn small() -> Limits {
    Limits {
        memory_bytes: 4 << 20,
        deadline_ms: 50,
        hostcall_bytes: 256 << 10,
        resources: 16,
        ..Limits::default()
    }
}

#[test]
fn bad_ends_are_named_contained_and_in_time() {
    let cases = [
        (100, "trap", "it said: about to die"),
        (101, "deadline", "50ms"),
        (102, "memory", "4194304"),
        (106, "trap", "out of bounds"),
        (110, "deadline", "50ms"),
        (111, "exit", "called exit"),
        (114, "resources", "16"),
        (117, "output", "hostcall_bytes"),
    ];
    for (sequence, code, words) in cases {
        let (mut instance, _) = instance(small());
        instance.on_batch(&batch(1, 1)).unwrap();
        let begun = Instant::now();
        let error = instance.on_batch(&batch(1, sequence)).unwrap_err();
        let took = begun.elapsed();
        assert_eq!(error.code(), code, "{sequence}: {error}");
        assert!(error.to_string().contains(words), "{sequence}: {error}");
        assert!(error.is_fatal());
        assert!(took < Duration::from_secs(2), "{sequence}: {took:?}");
        // The Store is lost; nothing is called in it again.
        let error = instance.on_batch(&batch(1, 1)).unwrap_err();
        assert!(matches!(error, CallError::Dead), "{error}");
    }
}

#[test]
fn a_short_sleep_is_a_sleep() {
    let (mut instance, _) = instance(small());
    instance.on_batch(&batch(1, 116)).unwrap();
    assert!(instance.last_call() >= Duration::from_millis(2));
}

#[test]
fn refusals_come_with_index_and_code_and_impossible_ones_do_not() {
    let (mut instance, _) = instance(small());
    let refusal = Refusal { event: 0, code: 7 };
    assert_eq!(instance.on_batch(&batch(1, 104)).unwrap(), [refusal]);
    assert_eq!(instance.on_batch(&batch(1, 105)).unwrap(), []);
    assert_eq!(instance.on_batch(&batch(1, 0)).unwrap(), []);
}

#[test]
fn a_log_flood_is_cut_and_counted() {
    let counters = Counters::default();
    metrics::with_local_recorder(&counters, || {
        let (mut instance, _) = instance(Limits {
            deadline_ms: 5_000,
            ..small()
        });
        instance.on_batch(&batch(1, 107)).unwrap();
    });
    let dropped = counters.get("penstock_plugin_log_dropped_total");
    assert!((9_000..=9_800).contains(&dropped), "{dropped}");
}

#[test]
fn custom_metrics_carry_the_prefix_and_stay_in_without_effects() {
    let counters = Counters::default();
    metrics::with_local_recorder(&counters, || {
        let (mut instance, _) = instance(small());
        instance.set_effects(false);
        instance.on_batch(&batch(1, 112)).unwrap();
        instance.set_effects(true);
        instance.on_batch(&batch(1, 112)).unwrap();
        instance.tick().unwrap();
    });
    assert_eq!(counters.get("penstock_plugin_custom_batches"), 1);
    assert_eq!(counters.get("penstock_plugin_custom_ticks"), 1);
}

#[test]
fn messages_carry_source_and_position_and_the_payload_is_not_copied() {
    let (mut instance, sink) = instance(small());
    instance.on_batch(&batch(1, 108)).unwrap();
    let forwarded = batch(1, 109);
    instance.on_batch(&forwarded).unwrap();
    let sent = sink.sent.lock().unwrap();
    let (topic, payload, source, position) = &sent[0];
    assert_eq!((&topic[..], &payload[..]), (&b"t"[..], &b"hello"[..]));
    assert_eq!(
        (source.as_deref(), position.sequence),
        (Some("vllm-1"), 108)
    );
    assert_eq!(sent[1].1.as_ptr(), forwarded.payload.as_ptr());
    assert_eq!(sent[1].3.sequence, 109);
}

#[test]
fn a_full_sink_is_an_error_to_the_plugin_and_no_effects_is_none() {
    let (mut instance, sink) = instance(small());
    sink.full.store(true, Relaxed);
    let code = PublishError::Full as u32;
    assert_eq!(
        instance.on_batch(&batch(1, 108)).unwrap(),
        [Refusal { event: 0, code }]
    );
    assert_eq!(
        instance.on_batch(&batch(1, 109)).unwrap(),
        [Refusal { event: 0, code }]
    );
    instance.set_effects(false);
    assert_eq!(instance.on_batch(&batch(1, 108)).unwrap(), []);
    assert!(sink.sent.lock().unwrap().is_empty());
}

#[test]
fn too_much_published_in_one_call_is_an_error_to_the_plugin() {
    let (mut instance, sink) = instance(Limits {
        publish_bytes: 4,
        ..small()
    });
    let code = PublishError::TooLarge as u32;
    assert_eq!(
        instance.on_batch(&batch(1, 108)).unwrap(),
        [Refusal { event: 0, code }]
    );
    assert!(sink.sent.lock().unwrap().is_empty());
    let skipped = || sink.skipped.load(Relaxed);
    assert_eq!(skipped(), 1, "the refused one leaves its number out");
    assert_eq!(instance.on_batch(&batch(1, 118)).unwrap(), []);
    assert_eq!(skipped(), 2);
    instance.set_effects(false);
    assert_eq!(instance.on_batch(&batch(1, 118)).unwrap(), []);
    assert_eq!(skipped(), 2);
}

#[test]
fn the_clock_goes_and_there_are_no_directories() {
    let (mut instance, _) = instance(small());
    assert_eq!(instance.on_batch(&batch(1, 113)).unwrap()[0].code, 0);
    assert_eq!(instance.on_batch(&batch(1, 115)).unwrap()[0].code, 0);
}

#[test]
fn changes_are_told_in_every_form_and_only_of_sources_that_joined() {
    let (mut instance, _) = instance(small());
    let id = SourceId(1);
    let gap = Change::Gap {
        source: id,
        epoch: Epoch(0),
        first: 2,
        last: 3,
        reason: GapReason::Truncated,
    };
    let reset = Change::Reset {
        source: id,
        epoch: Epoch(1),
        reason: ResetReason::Backwards,
    };
    for change in [&gap, &reset, &Change::Left(id)] {
        instance.on_source(change).unwrap();
    }
    assert_eq!(instance.on_source(&gap).unwrap_err().code(), "not_joined");
    assert_eq!(
        instance.on_batch(&batch(1, 0)).unwrap_err().code(),
        "not_joined"
    );
    instance.on_source(&Change::Left(id)).unwrap();
    // The instance lives on.
    instance.on_source(&joined(2)).unwrap();
    instance.on_batch(&batch(2, 0)).unwrap();
    let died = instance.on_source(&joined(13)).unwrap_err();
    assert_eq!(died.code(), "trap");
}

#[test]
fn dictionaries_are_told_before_the_batch_that_needs_them() {
    let (mut instance, _) = instance(Limits {
        deadline_ms: 2_000,
        ..small()
    });
    let state = source(2);
    for i in 0..10_000 {
        state
            .dictionary
            .code(NameKind::Adapter, &format!("adapter-{i}"));
    }
    instance.on_source(&Change::Joined(state)).unwrap();
    let mut with_names: Batch = Arc::into_inner(batch(2, 1)).unwrap();
    with_names.dictionary_len = 10_000;
    instance.on_batch(&with_names).unwrap();
    instance.on_batch(&with_names).unwrap();
}

#[test]
fn answers_are_rows_errors_or_lies() {
    let (mut instance, _) = instance(small());
    let rows = instance.find(&query(By::Tokens([1, 2, 3].into()))).unwrap();
    assert_eq!((rows[0].source, rows[0].tokens, rows[0].gpu), (1, 3, 3));
    let lie = instance
        .find(&query(By::TokenHashes([1].into())))
        .unwrap_err();
    assert!(
        matches!(&lie, CallError::Lie(_)) && lie.to_string().contains("999"),
        "{lie}"
    );
    let refused = instance
        .find(&query(By::EngineHashes([1].into())))
        .unwrap_err();
    assert_eq!(refused.to_string(), "told so");
    assert!(!lie.is_fatal() && !refused.is_fatal());
}

#[test]
fn requests_ticks_and_state_pass_through() {
    let (mut instance, _) = instance(small());
    assert_eq!(instance.request(b"ping").unwrap(), b"ping");
    assert_eq!(
        instance.interval().unwrap(),
        Some(Duration::from_millis(20))
    );
    let id = SourceId(1);
    let piece = instance.snapshot(id, 0, 64).unwrap();
    assert_eq!((&piece.bytes[..], piece.next), (&b"hello"[..], Some(5)));
    assert_eq!(instance.snapshot(id, 5, 64).unwrap().next, None);
    instance.restore(id, 3, b"hello").unwrap();
    assert_eq!(
        instance.restore(id, 4, b"hello").unwrap_err().code(),
        "refused"
    );
    assert_eq!(instance.snapshot(id, 0, 4).unwrap_err().code(), "lie");
    let huge = instance.snapshot(SourceId(999), 0, 64).unwrap_err();
    assert_eq!(huge.code(), "output");
}

#[test]
fn what_is_not_exported_is_missing() {
    let compiled = crate::common::compile("base", &Default::default()).unwrap();
    let setup = crate::common::setup(small(), &Arc::default(), "{}");
    let mut base = penstock_plugin::Instance::new(&crate::common::HOST, &compiled, &setup).unwrap();
    let error = base.find(&query(By::Tokens([1].into()))).unwrap_err();
    assert_eq!(error.to_string(), "the plugin does not export `lookup`");
    assert_eq!(base.request(b"").unwrap_err().code(), "missing");
    assert_eq!(base.tick().unwrap_err().code(), "missing");
    assert_eq!(base.interval().unwrap(), None);
}
