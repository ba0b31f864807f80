//! The plugin author's kit: typed events over the columns, logging, metrics.
