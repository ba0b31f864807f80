//! Which plugin gets which source: rings, cursors and bounded lanes.
