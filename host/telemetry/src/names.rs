use metrics::{describe_counter, describe_gauge};

/// Says what the metrics that every daemon has mean.
pub fn describe() {
    for (name, what) in [
        (
            "penstock_lane_detaches_total",
            "Times a source fell back to catching up because a plugin's lane was full",
        ),
        (
            "penstock_lane_dropped_batches_total",
            "Batches turned into gaps because a plugin's lane was full",
        ),
        (
            "penstock_lane_missed_batches_total",
            "Batches that neither the host nor the engine held any more for a plugin",
        ),
        ("penstock_source_messages_total", "Messages received live"),
        (
            "penstock_source_batches_total",
            "Batches delivered in order",
        ),
        ("penstock_source_missing_total", "Batches reported missing"),
    ] {
        describe_counter!(name, what);
    }
    for (name, what) in [
        ("penstock_lanes_bytes", "Bytes queued for all plugins"),
        ("penstock_rings_bytes", "Bytes of recent payloads kept"),
    ] {
        describe_gauge!(name, what);
    }
}
