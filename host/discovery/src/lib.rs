//! Where sources come from: the set of sources and its changes.
