//! Who holds which prefix: an index from tokens or hashes to sources.
