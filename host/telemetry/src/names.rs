use metrics::{describe_counter, describe_gauge, describe_histogram};

/// Says what the metrics that every daemon has mean. Sinks describe their own.
pub fn describe() {
    for (name, what) in COUNTERS {
        describe_counter!(*name, *what);
    }
    for (name, what) in GAUGES {
        describe_gauge!(*name, *what);
    }
    describe_histogram!("penstock_query_seconds", "Time of a request, by door");
}

const COUNTERS: &[(&str, &str)] = &[
    ("penstock_source_messages_total", "Messages received live"),
    ("penstock_source_bytes_total", "Bytes of those messages"),
    (
        "penstock_source_batches_total",
        "Batches delivered in order",
    ),
    ("penstock_source_events_total", "Events delivered"),
    (
        "penstock_source_blocks_total",
        "Blocks in stored events delivered",
    ),
    (
        "penstock_source_skipped_events_total",
        "Bad events left out of their batch",
    ),
    (
        "penstock_source_malformed_total",
        "Messages that are not topic, sequence and payload",
    ),
    (
        "penstock_source_undecodable_total",
        "Batches that could not be decoded",
    ),
    ("penstock_source_duplicates_total", "Messages seen before"),
    (
        "penstock_source_stale_frames_total",
        "Messages of an earlier life of the engine",
    ),
    ("penstock_source_restarts_total", "Restarts of the engine"),
    (
        "penstock_source_gaps_opened_total",
        "Times batches were found missing",
    ),
    (
        "penstock_source_gaps_filled_total",
        "Gaps that replay closed, nothing missing",
    ),
    ("penstock_source_missing_total", "Batches reported missing"),
    ("penstock_source_replays_total", "Replays begun"),
    (
        "penstock_source_replayed_total",
        "Batches that came by replay",
    ),
    ("penstock_source_disconnects_total", "Connections lost"),
    (
        "penstock_source_two_publishers_total",
        "Messages of a second publisher on the same topic",
    ),
    (
        "penstock_source_errors_total",
        "What was left out, by stage and code",
    ),
    (
        "penstock_ingest_topics_refused_total",
        "Topics of bound sockets above the limit",
    ),
    (
        "penstock_ingest_fetches_refused_total",
        "Fetches for single plugins above the limit",
    ),
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
    (
        "penstock_plugin_batches_total",
        "Batches handed to the plugin",
    ),
    (
        "penstock_plugin_events_total",
        "Events handed to the plugin",
    ),
    (
        "penstock_plugin_blocks_total",
        "Blocks handed to the plugin",
    ),
    (
        "penstock_plugin_lookups_total",
        "Lookups the plugin answered",
    ),
    (
        "penstock_plugin_lookup_errors_total",
        "Lookups the plugin did not answer, by reason",
    ),
    (
        "penstock_plugin_failures_total",
        "Instances lost to a trap, a deadline or another failure",
    ),
    (
        "penstock_plugin_dropped_batches_total",
        "Batches the plugin did not get, by reason",
    ),
    (
        "penstock_plugin_refused_events_total",
        "Events the plugin refused, by its own code",
    ),
    (
        "penstock_plugin_refused_total",
        "Plugin files that could not be loaded",
    ),
    (
        "penstock_plugin_fed_anew_total",
        "Sources whose state a new build could not take over",
    ),
    (
        "penstock_plugin_lies_total",
        "Values from the plugin that are out of range",
    ),
    (
        "penstock_plugin_log_dropped_total",
        "Log lines above the plugin's limit",
    ),
    (
        "penstock_plugin_metrics_dropped_total",
        "Numbers above the plugin's limit on series, or of a bad name",
    ),
    (
        "penstock_query_requests_total",
        "Requests by door and outcome",
    ),
    (
        "penstock_query_lost_total",
        "Replies that nobody took, and requests that were none",
    ),
];

const GAUGES: &[(&str, &str)] = &[
    ("penstock_lanes_bytes", "Bytes queued for all plugins"),
    ("penstock_rings_bytes", "Bytes of recent payloads kept"),
    ("penstock_sources", "Sources by state of their connection"),
    (
        "penstock_plugin_generation",
        "Builds of the plugin since the daemon started",
    ),
    (
        "penstock_plugin_memory_bytes",
        "Linear memory of the plugin",
    ),
    (
        "penstock_plugin_queue_bytes",
        "Bytes that wait for the plugin",
    ),
    ("penstock_plugin_running", "1 while the plugin runs"),
    ("penstock_plugin_up", "1 while the plugin's instance lives"),
];
