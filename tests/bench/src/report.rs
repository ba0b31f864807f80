//! What a part reports: rows of a table for people, a JSON object for programs.

use crate::machine::Machine;
use crate::measure::Spread;
use anyhow::Result;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::io::Write;

/// A part's figures.
#[derive(Debug)]
pub struct Report {
    /// `decode`, `index` or `path`.
    pub bench: &'static str,
    /// The object printed for programs: numbers, and what they are about.
    pub figures: Map<String, Value>,
    /// The rows printed for people.
    pub rows: Vec<Row>,
}

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Of the figures.
    pub unit: &'static str,
    /// Ours.
    pub ours: Spread,
    /// What it is compared with, and its name.
    pub beside: Option<(&'static str, Spread)>,
    /// Ours to that, round by round.
    pub ratio: Option<Spread>,
    /// What is expected.
    pub expected: Option<Expected>,
}

/// What is expected of a row, at most.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// Ours.
    Ours(f64),
    /// The ratio.
    Ratio(f64),
}

#[derive(Serialize)]
struct Line<'a> {
    bench: &'a str,
    #[serde(flatten)]
    figures: &'a Map<String, Value>,
    machine: &'a Machine,
}

// === impl Report ===

impl Report {
    /// A report with `figures`, an object.
    pub fn new(bench: &'static str, figures: Value, rows: Vec<Row>) -> Self {
        let figures = match figures {
            Value::Object(figures) => figures,
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        Self {
            bench,
            figures,
            rows,
        }
    }
}

// === impl Row ===

impl Row {
    /// Whether it is as expected.
    fn verdict(&self) -> &'static str {
        let within = match self.expected {
            None => return "",
            Some(Expected::Ours(most)) => self.ours.median <= most,
            Some(Expected::Ratio(most)) => self.ratio.is_some_and(|r| r.median <= most),
        };
        if within { "as expected" } else { "beyond" }
    }
}

/// A figure for JSON: four digits are more than any of these is good for.
pub fn number(x: f64) -> Value {
    json!(if x.abs() >= 1_000.0 {
        x.round()
    } else {
        (x * 1_000.0).round() / 1_000.0
    })
}

/// The least and the most for JSON.
pub fn ends(spread: Spread) -> Value {
    json!([number(spread.min), number(spread.max)])
}

/// Prints one line of JSON.
pub fn line(report: &Report, machine: &Machine) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let line = Line {
        bench: report.bench,
        figures: &report.figures,
        machine,
    };
    serde_json::to_writer(&mut out, &line)?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

/// Prints the table.
pub fn table(rows: &[Row]) {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header([
        "measured", "unit", "median", "range", "beside", "median", "range", "ratio", "expected",
    ]);
    for row in rows {
        let beside = row.beside;
        table.add_row([
            row.what.clone(),
            row.unit.into(),
            show(row.ours.median),
            range(row.ours),
            beside.map_or_else(String::new, |(name, _)| name.into()),
            beside.map_or_else(String::new, |(_, s)| show(s.median)),
            beside.map_or_else(String::new, |(_, s)| range(s)),
            row.ratio
                .map_or_else(String::new, |r| format!("{:.2}", r.median)),
            match row.expected {
                None => String::new(),
                Some(Expected::Ours(most)) => format!("<= {most}: {}", row.verdict()),
                Some(Expected::Ratio(most)) => format!("ratio <= {most}: {}", row.verdict()),
            },
        ]);
    }
    for at in [2, 3, 5, 6, 7] {
        if let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{table}");
}

fn range(spread: Spread) -> String {
    format!("{}..{}", show(spread.min), show(spread.max))
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
    fn verdicts_look_at_what_is_expected() {
        let one = |n| Spread {
            median: n,
            min: n,
            max: n,
        };
        let mut row = Row {
            what: "index".into(),
            unit: "ns/block",
            ours: one(60.0),
            beside: Some(("native", one(30.0))),
            ratio: Some(one(2.0)),
            expected: Some(Expected::Ratio(1.5)),
        };
        assert_eq!(row.verdict(), "beyond");
        row.expected = Some(Expected::Ours(100.0));
        assert_eq!(row.verdict(), "as expected");
        row.expected = None;
        assert_eq!(row.verdict(), "");
    }

    #[test]
    fn a_line_holds_figures_and_machine() {
        let report = Report::new("decode", json!({"ns_per_block": number(0.123_456)}), vec![]);
        let machine = Machine::read();
        let line = Line {
            bench: report.bench,
            figures: &report.figures,
            machine: &machine,
        };
        let line = serde_json::to_value(&line).unwrap();
        assert_eq!(line["bench"], "decode");
        assert_eq!(line["ns_per_block"], 0.123);
        assert_eq!(line["machine"]["cores"], machine.cores);
    }
}
