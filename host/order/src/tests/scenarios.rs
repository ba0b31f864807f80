//! What an operator sees, by example. In `"e1 b3*"` the epoch is 1, the engine is the
//! second one (`b`), its batch is 3, and it came by replay.

use super::desk::Desk;
use super::{SECOND, batch, config};
use crate::{Config, Frame, Machine, Note};
use penstock_event::{Epoch, Mark, Position};

/// Live at batch 2 of engine `a`.
fn joined() -> Desk {
    let mut desk = Desk::new(config());
    assert_eq!(desk.connected(), "ask 0");
    assert_eq!(desk.replay("a0 a1 a2 end"), "e0 a0*, e0 a1*, e0 a2*");
    assert_eq!(desk.status().state, "live");
    desk
}

/// The same after its connection was lost and made again.
fn reconnected() -> Desk {
    let mut desk = joined();
    assert_eq!(desk.disconnected(), "");
    assert_eq!(desk.status().state, "down");
    assert_eq!(desk.connected(), "ask 2");
    desk
}

fn without_replay() -> Config {
    Config {
        replay: false,
        ..config()
    }
}

fn shared() -> Config {
    Config {
        shared: true,
        ..without_replay()
    }
}

#[test]
fn joining_late_brings_the_beginning_by_replay_and_goes_on_live() {
    let mut desk = Desk::new(config());
    assert_eq!(desk.connected(), "ask 0");
    assert_eq!(desk.live("a3 a4"), "");
    let brought = desk.replay("a0 a1 a2 a3");
    assert_eq!(brought, "e0 a0*, e0 a1*, e0 a2*, e0 a3, e0 a4, stop");
    assert_eq!(desk.live("a5"), "e0 a5");
    assert!(desk.status().complete);
}

#[test]
fn a_first_batch_seen_live_needs_no_replay() {
    let mut desk = Desk::new(config());
    assert_eq!(desk.live("a0 a1"), "e0 a0, e0 a1");
    assert_eq!(desk.connected(), "", "only the word of the same connection");
}

#[test]
fn a_gap_is_filled_by_replay() {
    let mut desk = joined();
    assert_eq!(desk.live("a5 a6"), "ask 3");
    assert_eq!(desk.status().state, "filling");
    let filled = desk.replay("a3 a4 a5");
    assert_eq!(filled, "e0 a3*, e0 a4*, e0 a5, e0 a6, stop");
    assert_eq!(desk.count(Note::GapOpened), 1);
    assert_eq!(desk.count(Note::GapFilled), 1);
    assert!(desk.status().complete);
}

#[test]
fn a_gap_without_a_replay_endpoint_is_reported_at_once() {
    let mut desk = Desk::new(without_replay());
    assert_eq!(desk.connected(), "");
    assert_eq!(desk.live("a4"), "e0 gap 0-3 no_replay, e0 a4");
    assert_eq!(desk.live("a6"), "e0 gap 5-5 no_replay, e0 a6");
    assert!(!desk.status().complete);
}

#[test]
fn history_that_the_engine_dropped_is_reported() {
    let mut desk = Desk::new(config());
    desk.connected();
    desk.live("a9");
    let brought = desk.replay("a7 a8 a9");
    let reported = "e0 gap 0-6 truncated, e0 a7*, e0 a8*, e0 a9, stop";
    assert_eq!(brought, reported);
    assert!(!desk.status().complete);
}

#[test]
fn a_gap_that_no_replay_answers_is_reported_after_three() {
    let mut desk = joined();
    assert_eq!(desk.live("a5"), "ask 3");
    assert_eq!(desk.replay("fails"), "ask 3");
    assert_eq!(desk.replay(""), "");
    assert_eq!(desk.wait(2 * SECOND), "stop, ask 3");
    assert_eq!(desk.replay("fails"), "e0 gap 3-4 replay_timeout, e0 a5");
}

#[test]
fn a_hole_inside_a_replay_is_asked_for_again() {
    let mut desk = joined();
    desk.live("a8");
    assert_eq!(desk.replay("a3 a6"), "e0 a3*, stop, ask 4");
    let brought = desk.replay("a4 a5 a6 a7 a8");
    assert_eq!(brought, "e0 a4*, e0 a5*, e0 a6*, e0 a7*, e0 a8, stop");
}

#[test]
fn after_a_reconnect_the_same_engine_goes_on() {
    let mut desk = reconnected();
    assert_eq!(desk.live("a5"), "", "held until the engine is known again");
    assert_eq!(desk.status().state, "verifying");
    let brought = desk.replay("a2 a3 a4 a5");
    assert_eq!(brought, "e0 a3*, e0 a4*, e0 a5, stop");
    assert!(desk.status().complete);
}

#[test]
fn after_a_reconnect_other_content_is_a_restart_though_sequences_go_on() {
    let mut desk = reconnected();
    assert_eq!(desk.live("b3"), "");
    let seen = desk.replay("b2");
    assert_eq!(seen, "stop, stale, reset e1 content_differs, ask 0");
    let brought = desk.replay("b0 b1 b2 b3 end");
    assert_eq!(brought, "e1 b0*, e1 b1*, e1 b2*, e1 b3*");
    assert_eq!(desk.live("b3"), "duplicate");
    assert_eq!(
        desk.live("b4"),
        "ask 4",
        "the first one is confirmed by replay"
    );
    assert_eq!(desk.replay("b4"), "e1 b4, stop");
    assert_eq!(desk.live("b5"), "e1 b5");
}

#[test]
fn after_a_reconnect_an_empty_answer_is_a_restart() {
    let mut desk = reconnected();
    assert_eq!(desk.live("b0 b1"), "");
    assert_eq!(desk.replay("end"), "reset e1 unproven, ask 0");
    assert_eq!(desk.replay("b0"), "e1 b0, e1 b1, stop");
}

#[test]
fn after_a_reconnect_an_evicted_batch_is_a_restart() {
    let mut desk = reconnected();
    assert_eq!(desk.replay("a9"), "stop, reset e1 unproven, ask 0");
    let brought = desk.replay("a9 a10 end");
    assert_eq!(brought, "e1 gap 0-8 truncated, e1 a9*, e1 a10*");
}

#[test]
fn after_a_reconnect_no_answer_is_a_restart_in_bounded_time() {
    let mut desk = reconnected();
    for _ in 0..2 {
        desk.replay("");
        assert_eq!(desk.wait(2 * SECOND), "stop, ask 2");
    }
    desk.replay("");
    assert_eq!(desk.wait(2 * SECOND), "stop, reset e1 unproven, ask 0");
}

#[test]
fn after_a_reconnect_without_replay_nothing_is_taken_on_trust() {
    let mut desk = Desk::new(without_replay());
    desk.connected();
    assert_eq!(desk.live("a0"), "e0 a0");
    desk.disconnected();
    assert_eq!(desk.connected(), "reset e1 unproven");
}

#[test]
fn a_reconnect_whose_loss_nobody_saw_is_checked_too() {
    let mut desk = joined();
    assert_eq!(desk.connected(), "ask 2");
    assert_eq!(desk.live("b3"), "");
    assert_eq!(desk.status().state, "verifying");
}

#[test]
fn what_the_old_connection_still_held_is_not_taken_for_the_new_engine() {
    let mut desk = reconnected();
    assert_eq!(desk.live("a3 a4 b0 b1"), "");
    let seen = desk.replay("end");
    assert_eq!(seen, "stale, stale, reset e1 unproven, ask 0");
    assert_eq!(desk.replay("b0"), "e1 b0, e1 b1, stop");
}

#[test]
fn old_frames_read_long_after_the_restart_are_left_out() {
    let mut desk = reconnected();
    desk.replay("end");
    assert_eq!(desk.replay("b0 end"), "e1 b0*");
    assert_eq!(desk.live("a1"), "ask 1");
    assert_eq!(desk.replay("b1"), "stale, e1 b1*");
    assert_eq!(desk.count(Note::Stale), 1);
}

#[test]
fn sequences_that_go_back_live_are_a_restart() {
    let mut desk = joined();
    assert_eq!(desk.live("b0"), "ask 2", "perhaps a late duplicate");
    assert_eq!(desk.replay("end"), "reset e1 backwards, ask 0");
    assert_eq!(desk.replay("b0"), "e1 b0, stop");
}

#[test]
fn a_late_copy_from_the_same_engine_is_no_restart() {
    let mut desk = joined();
    assert_eq!(desk.live("a1"), "duplicate");
    assert_eq!(desk.live("a3"), "e0 a3");
}

#[test]
fn an_announced_restart_needs_no_proof() {
    let mut desk = joined();
    assert_eq!(desk.announced(), "reset e1 announced, ask 0");
    assert_eq!(desk.replay("b0 end"), "e1 b0*");
}

#[test]
fn a_lost_end_of_a_burst_is_found_in_the_silence() {
    let mut desk = joined();
    assert_eq!(desk.wait(SECOND), "ask 3");
    assert_eq!(desk.replay("a3 a4 end"), "e0 a3*, e0 a4*, ask 5");
    assert_eq!(desk.replay("end"), "");
    assert_eq!(desk.count(Note::GapFilled), 1);
}

#[test]
fn a_long_silence_is_checked_again_and_again_each_time_later() {
    let mut desk = joined();
    for seconds in [1, 1, 2, 4, 8, 16, 32, 64, 64] {
        assert_eq!(desk.wait(seconds * SECOND - 1), "");
        assert_eq!(desk.wait(1), "ask 3");
        assert_eq!(desk.replay("end"), "");
    }
    // Its live frames do not arrive.
    assert_eq!(desk.wait(64 * SECOND), "ask 3");
    assert_eq!(desk.replay("a3 a4 end"), "e0 a3*, e0 a4*, ask 5");
    assert_eq!(desk.replay("end"), "");
    assert_eq!(desk.wait(SECOND), "ask 5");
    assert_eq!(desk.replay("end"), "");
    // They do again.
    assert_eq!(desk.live("a5"), "e0 a5");
    assert_eq!(desk.wait(SECOND), "ask 6");
}

#[test]
fn an_unanswered_check_of_the_end_is_made_again_later_each_time() {
    let mut desk = joined();
    for seconds in [1, 1, 2, 4] {
        assert_eq!(desk.wait(seconds * SECOND - 1), "");
        assert_eq!(desk.wait(1), "ask 3");
        assert_eq!(desk.replay("fails"), "");
    }
}

#[test]
fn two_publishers_on_one_topic_are_not_a_restart() {
    let mut desk = Desk::new(shared());
    assert_eq!(desk.live("a0 a1 a2 a3"), "e0 a0, e0 a1, e0 a2, e0 a3");
    assert_eq!(desk.live("b0"), "");
    assert_eq!(desk.status().state, "suspicious");
    assert_eq!(desk.live("a4"), "two publishers, e0 a4");
    assert_eq!(desk.live("b1"), "two publishers");
    assert!(!desk.status().complete);
}

#[test]
fn one_publisher_that_begins_again_on_a_shared_stream_is_a_restart() {
    let mut desk = Desk::new(shared());
    desk.live("a0 a1 a2");
    assert_eq!(desk.live("b0 b1"), "");
    assert_eq!(desk.wait(SECOND), "reset e1 backwards, e1 b0, e1 b1");
}

#[test]
fn what_waits_is_bounded() {
    let mut desk = Desk::new(Config {
        buffer_frames: 3,
        ..config()
    });
    desk.connected();
    assert_eq!(desk.live("a5 a6 a7"), "");
    let overflow = "stop, e0 gap 0-4 buffer_full, e0 a5, e0 a6, e0 a7, e0 a8";
    assert_eq!(desk.live("a8"), overflow);
}

#[test]
fn frames_of_a_closed_replay_are_ignored() {
    let mut desk = joined();
    desk.live("a5");
    let old = desk.replay_id();
    assert_eq!(desk.replay("a3 a4 a5"), "e0 a3*, e0 a4*, e0 a5, stop");
    assert_eq!(desk.replayed(old, "a6"), "");
    assert_eq!(desk.live("a6"), "e0 a6");
}

#[test]
fn a_checkpoint_goes_on_where_the_engine_still_has_its_batch() {
    let at = |desk: &Desk| desk.status().position;
    for (answer, says) in [
        ("a7 a8 end", "resumed, e4 a8*"),
        ("a7 end", "resumed"),
        ("b7", "stop, reset e5 content_differs, ask 0"),
        ("a9", "stop, reset e5 unproven, ask 0"),
        ("end", "reset e5 unproven, ask 0"),
    ] {
        let mut desk = resumed(config());
        assert_eq!(at(&desk), Some(checkpoint().position));
        assert!(!desk.status().complete, "its gaps are not forgotten");
        assert_eq!(desk.connected(), "ask 7");
        assert_eq!(desk.replay(answer), says);
    }
}

/// Batch 7 of engine `a`, in the fifth epoch.
fn checkpoint() -> Mark {
    let epoch = Epoch(4);
    let sequence = 7;
    Mark {
        position: Position { epoch, sequence },
        digest: batch("a7").digest(),
    }
}

/// A machine that begins with it.
fn resumed(config: Config) -> Desk {
    let mut desk = Desk::new(config.clone());
    desk.machine = Machine::resume(config, checkpoint(), false);
    desk
}

#[test]
fn live_frames_wait_until_the_checkpoint_was_checked() {
    let mut desk = resumed(config());
    assert_eq!(
        desk.live("a9 a10"),
        "ask 7",
        "before word of the connection"
    );
    assert_eq!(desk.connected(), "");
    let all = "resumed, e4 a8*, e4 a9, e4 a10, stop";
    assert_eq!(desk.replay("a7 a8 a9"), all);

    let mut desk = resumed(config());
    desk.disconnected();
    assert_eq!(
        desk.live("b8"),
        "",
        "whose it is, the next connection tells"
    );
    assert_eq!(desk.connected(), "ask 7");
    let gone = "stop, stale, reset e5 content_differs, ask 0";
    assert_eq!(desk.replay("b7"), gone);
    assert_eq!(desk.replay("b0 b1 end"), "e5 b0*, e5 b1*");
}

#[test]
fn a_checkpoint_of_a_source_without_replay_proves_nothing() {
    let reset = "reset e5 unproven";
    let mut desk = resumed(without_replay());
    assert_eq!(desk.connected(), reset);
    assert_eq!(desk.live("a8"), "e5 gap 0-7 no_replay, e5 a8");
    assert_eq!(
        resumed(shared()).live("a8"),
        format!("{reset}, e5 gap 0-7 no_replay, e5 a8")
    );
    let mut desk = resumed(config());
    assert_eq!(desk.connected(), "ask 7");
    for asked in [
        "stop, ask 7",
        "stop, ask 7",
        "stop, reset e5 unproven, ask 0",
    ] {
        assert_eq!(desk.wait(31 * SECOND), asked, "no answer");
    }
}

#[test]
fn the_wire_s_end_marker_is_no_batch() {
    let mut desk = joined();
    let marker = format!("a{}", u64::MAX);
    assert_eq!(desk.live(&marker), "");
    desk.live("a4");
    assert_eq!(desk.replay(&marker), "");
    assert_eq!(desk.replay("a3 a4"), "e0 a3*, e0 a4, stop");
}
