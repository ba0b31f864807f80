//! Rows: a table for people, a JSON object a line for programs.

use crate::measure::Spread;
use anyhow::Result;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// One figure.
#[derive(Clone, Debug)]
pub struct Row {
    /// Short and stable.
    pub name: String,
    /// What was measured.
    pub what: String,
    /// Of `ours` and `peer`.
    pub unit: &'static str,
    /// The thing measured.
    pub ours: Side,
    /// What does the same, or the least of it.
    pub peer: Option<Side>,
    /// Expected at most.
    pub limit: Option<f64>,
    /// What the limit is on: `ours` or `ratio`.
    pub limit_on: &'static str,
    /// Ours to the peer's, round by round; to the limit without a peer.
    pub ratio: Spread,
    /// Rounds.
    pub samples: usize,
    /// Blocks stored in one round.
    pub blocks: u64,
    /// How the two sides were built.
    pub profile: String,
    /// Further numbers, by name.
    pub more: BTreeMap<String, f64>,
}

/// One side of a comparison.
#[derive(Clone, Debug)]
pub struct Side {
    /// What it is.
    pub name: &'static str,
    /// Its samples.
    pub spread: Spread,
}

/// How this program was built.
pub const PROFILE: &str = if cfg!(debug_assertions) {
    "dev (figures mean nothing)"
} else {
    "release"
};

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    what: &'a str,
    unit: &'a str,
    ours: f64,
    peer: Option<f64>,
    peer_is: Option<&'a str>,
    limit: Option<f64>,
    limit_on: &'a str,
    within_limit: Option<bool>,
    ratio: f64,
    ratio_to: &'a str,
    spread: Spreads,
    samples: usize,
    blocks: u64,
    profile: &'a str,
    #[serde(flatten)]
    more: &'a BTreeMap<String, f64>,
}

#[derive(Serialize)]
struct Spreads {
    ours: [f64; 2],
    peer: Option<[f64; 2]>,
    ratio: [f64; 2],
}

// === impl Side ===

impl Side {
    /// A side by name.
    pub fn new(name: &'static str, spread: Spread) -> Self {
        Self { name, spread }
    }
}

// === impl Row ===

impl Row {
    /// Whether the figure is as expected; none where nothing is.
    fn within(&self) -> Option<bool> {
        let figure = match self.limit_on {
            "ratio" => self.ratio.median,
            _ => self.ours.spread.median,
        };
        self.limit.map(|limit| figure <= limit)
    }

    fn line(&self) -> Line<'_> {
        let ends = |s: Spread| [round(s.min), round(s.max)];
        Line {
            name: &self.name,
            what: &self.what,
            unit: self.unit,
            ours: round(self.ours.spread.median),
            peer: self.peer.as_ref().map(|p| round(p.spread.median)),
            peer_is: self.peer.as_ref().map(|p| p.name),
            limit: self.limit,
            limit_on: self.limit_on,
            within_limit: self.within(),
            ratio: round(self.ratio.median),
            ratio_to: if self.peer.is_some() { "peer" } else { "limit" },
            spread: Spreads {
                ours: ends(self.ours.spread),
                peer: self.peer.as_ref().map(|p| ends(p.spread)),
                ratio: ends(self.ratio),
            },
            samples: self.samples,
            blocks: self.blocks,
            profile: &self.profile,
            more: &self.more,
        }
    }
}

/// Prints a JSON object a row.
pub fn lines(rows: &[Row]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for row in rows {
        serde_json::to_writer(&mut out, &row.line())?;
        writeln!(out)?;
    }
    out.flush()?;
    Ok(())
}

/// Prints a table, and below it what the rows mean.
pub fn table(rows: &[Row]) {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header([
        "row", "unit", "ours", "min..max", "peer", "min..max", "ratio", "min..max", "limit", "",
    ]);
    for row in rows {
        let peer = row.peer.as_ref().map(|p| p.spread);
        table.add_row([
            row.name.clone(),
            row.unit.into(),
            show(row.ours.spread.median),
            ends(row.ours.spread),
            peer.map_or_else(String::new, |p| show(p.median)),
            peer.map_or_else(String::new, ends),
            format!("{:.2}", row.ratio.median),
            format!("{:.2}..{:.2}", row.ratio.min, row.ratio.max),
            row.limit.map_or_else(String::new, |l| match row.limit_on {
                "ratio" => format!("ratio {l}"),
                _ => show(l),
            }),
            match row.within() {
                Some(true) => "ok".into(),
                Some(false) => "beyond".into(),
                None => String::new(),
            },
        ]);
    }
    for at in 2..=7 {
        if let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{table}");
    for row in rows {
        let peer = row
            .peer
            .as_ref()
            .map_or_else(String::new, |p| format!(", against {}", p.name));
        println!("{}: {}{peer}", row.name, row.what);
        let more = row
            .more
            .iter()
            .map(|(name, n)| format!("{name} {}", show(*n)));
        println!(
            "    {} rounds of {} blocks; {}; {}",
            row.samples,
            row.blocks,
            row.profile,
            more.collect::<Vec<_>>().join(", ")
        );
    }
}

fn ends(spread: Spread) -> String {
    format!("{}..{}", show(spread.min), show(spread.max))
}

/// Four digits are more than any of these figures is good for.
fn round(x: f64) -> f64 {
    if x.abs() >= 1_000.0 {
        x.round()
    } else {
        (x * 1_000.0).round() / 1_000.0
    }
}

fn show(x: f64) -> String {
    match x.abs() {
        n if n >= 1e9 => format!("{:.2} G", x / 1e9),
        n if n >= 1e6 => format!("{:.2} M", x / 1e6),
        n if n >= 1e4 => format!("{:.1} k", x / 1e3),
        n if n >= 100.0 || x.fract() == 0.0 => format!("{x:.0}"),
        _ => format!("{x:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_look_at_what_they_are_on() {
        let one = |n| Spread {
            median: n,
            min: n,
            max: n,
        };
        let mut row = Row {
            name: "index".into(),
            what: String::new(),
            unit: "ns/block",
            ours: Side::new("wasm", one(60.0)),
            peer: Some(Side::new("native", one(30.0))),
            limit: Some(1.5),
            limit_on: "ratio",
            ratio: one(2.0),
            samples: 1,
            blocks: 1,
            profile: PROFILE.into(),
            more: [("boundary_ns".to_owned(), 7.5)].into(),
        };
        assert_eq!(row.within(), Some(false));
        (row.limit, row.limit_on) = (Some(100.0), "ours");
        assert_eq!(row.within(), Some(true));
        let line = serde_json::to_value(row.line()).unwrap();
        assert_eq!(line["ours"], 60.0);
        assert_eq!(line["spread"]["peer"][0], 30.0);
        assert_eq!(line["boundary_ns"], 7.5);
    }
}
