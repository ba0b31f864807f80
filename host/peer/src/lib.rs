//! An engine's side of the protocol: publish, replay, recorded frames, traces.
