//! What is reported: a JSON line a row for programs, a table for people.

use crate::goals::{Goal, Goals, Of};
use crate::machine::Machine;
use crate::measure::Spread;
use anyhow::Result;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::io::Write;

/// One thing that was measured.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Short and stable, as goals name it.
    pub name: &'static str,
    /// In words.
    pub what: String,
    /// Of the figures.
    pub unit: &'static str,
    /// Ours, round by round.
    pub ours: Vec<f64>,
    /// What it is compared with.
    pub beside: Option<Beside>,
    /// What both sides did, the same for both.
    pub work: Work,
    /// Why the figures are void: contents differ at the end.
    pub void: Option<String>,
    /// More that may be of use: shapes, other figures.
    pub more: Map<String, Value>,
}

/// The other side of a comparison.
#[derive(Clone, Debug)]
pub struct Beside {
    /// What it is, with its version.
    pub name: String,
    /// Round by round, as ours.
    pub samples: Vec<f64>,
    /// How they are compared.
    pub as_: As,
}

/// How ours and the other side become a ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// The other side's time to ours.
    TimesFaster,
    /// Ours to the other side's.
    TimesAsMuch,
    /// It is only shown.
    Aside,
}

/// What was done, as checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Work {
    /// Blocks stored.
    pub blocks: u64,
    /// Blocks removed.
    pub removes: u64,
    /// Of all payloads, in order.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub payload_digest: String,
}

/// As programs get it.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    what: &'a str,
    ours: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<f64>,
    unit: &'a str,
    ratio: Option<Value>,
    goal: Option<String>,
    met: Option<bool>,
    /// The least and the most of ours.
    spread: [Value; 2],
    samples: &'a [f64],
    #[serde(skip_serializing_if = "<[f64]>::is_empty")]
    peer_samples: &'a [f64],
    #[serde(flatten)]
    work: &'a Work,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    void: Option<&'a str>,
    #[serde(flatten)]
    more: &'a Map<String, Value>,
    build: &'static str,
    machine: &'a Machine,
}

/// How both sides are built.
const BUILD: &str = "release: ours opt-level 3, plugins opt-level 3 and fat lto by Cranelift; \
                     peer opt-level 3 and fat lto";

// === impl Beside ===

impl Beside {
    /// What ours is to be faster than.
    pub fn times_faster(name: impl Into<String>, samples: Vec<f64>) -> Self {
        Self {
            name: name.into(),
            samples,
            as_: As::TimesFaster,
        }
    }
}

// === impl Row ===

impl Row {
    /// Ours.
    pub fn figure(&self) -> Spread {
        Spread::of(self.ours.iter().copied())
    }

    /// Round by round.
    pub fn ratio(&self) -> Option<Spread> {
        let beside = self.beside.as_ref()?;
        let pairs = self.ours.iter().zip(&beside.samples);
        Some(Spread::of(match beside.as_ {
            As::TimesFaster => pairs.map(|(ours, other)| other / ours).collect::<Vec<_>>(),
            As::TimesAsMuch => pairs.map(|(ours, other)| ours / other).collect(),
            As::Aside => return None,
        }))
    }

    /// Whether it reaches its goal; none without one.
    pub fn is_met(&self, goal: Option<Goal>) -> Option<bool> {
        let goal = goal?;
        let figure = match goal.of {
            Of::Ours => Some(self.figure().median),
            Of::Ratio => self.ratio().map(|ratio| ratio.median),
        };
        Some(self.void.is_none() && figure.is_some_and(|figure| goal.is_met(figure)))
    }

    /// Prints it as one line of JSON.
    pub fn print(&self, goals: &Goals, machine: &Machine) -> Result<()> {
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, &self.line(goals, machine))?;
        writeln!(out)?;
        out.flush()?;
        Ok(())
    }

    fn line<'a>(&'a self, goals: &Goals, machine: &'a Machine) -> Line<'a> {
        let (goal, ours) = (goals.of(self.name), self.figure());
        let beside = self.beside.as_ref();
        let peer = beside.map(|b| number(Spread::of(b.samples.iter().copied()).median));
        Line {
            name: self.name,
            what: &self.what,
            ours: number(ours.median),
            limit: goal.filter(|g| g.of == Of::Ours).and_then(|g| g.at_most),
            peer,
            unit: self.unit,
            ratio: self.ratio().map(|ratio| number(ratio.median)),
            goal: goal.map(|goal| goal.to_string()),
            met: self.is_met(goal),
            spread: [number(ours.min), number(ours.max)],
            samples: &self.ours,
            peer_samples: beside.map_or(&[], |b| &b.samples),
            work: &self.work,
            peer_version: beside.map(|b| &*b.name),
            void: self.void.as_deref(),
            more: &self.more,
            build: BUILD,
            machine,
        }
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

/// Prints all rows for people.
pub fn table(rows: &[Row], goals: &Goals) {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header([
        "row", "measured", "ours", "unit", "range", "beside", "", "ratio", "goal", "",
    ]);
    for row in rows {
        let (ours, goal) = (row.figure(), goals.of(row.name));
        let beside = row.beside.as_ref();
        let other = beside.map(|b| Spread::of(b.samples.iter().copied()));
        table.add_row([
            row.name.to_owned(),
            row.what.clone(),
            show(ours.median),
            row.unit.to_owned(),
            format!("{}..{}", show(ours.min), show(ours.max)),
            beside.map_or_else(String::new, |b| b.name.clone()),
            other.map_or_else(String::new, |spread| show(spread.median)),
            row.ratio()
                .map_or_else(String::new, |ratio| show(ratio.median)),
            goal.map_or_else(String::new, |goal| goal.to_string()),
            match (&row.void, row.is_met(goal)) {
                (Some(why), _) => format!("void: {why}"),
                (None, Some(true)) => "met".into(),
                (None, Some(false)) => "not met".into(),
                (None, None) => String::new(),
            },
        ]);
    }
    for at in [2, 4, 6, 7] {
        if let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{table}");
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

    fn row(as_: As) -> Row {
        Row {
            name: "decode-maps-4",
            ours: vec![10.0, 20.0, 12.0],
            beside: Some(Beside {
                name: "a peer 1.0".into(),
                samples: vec![120.0, 220.0, 120.0],
                as_,
            }),
            ..Row::default()
        }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        assert_eq!(row(As::TimesFaster).ratio().unwrap().median, 11.0);
        let cost = row(As::TimesAsMuch).ratio().unwrap();
        assert!((cost.median - 20.0 / 220.0).abs() < 1e-9);
        assert_eq!(row(As::Aside).ratio(), None);
    }

    #[test]
    fn what_is_void_meets_no_goal() {
        let goals = Goals::read().unwrap();
        let mut row = row(As::TimesFaster);
        let goal = goals.of(row.name);
        assert_eq!(row.is_met(goal), Some(true));
        row.void = Some("7 blocks held, the peer holds 8".into());
        assert_eq!(row.is_met(goal), Some(false));
        assert_eq!(row.is_met(None), None);
    }

    #[test]
    fn a_line_holds_what_programs_ask_for() {
        let (goals, machine) = (Goals::read().unwrap(), Machine::read());
        let row = row(As::TimesFaster);
        let line = serde_json::to_value(row.line(&goals, &machine)).unwrap();
        assert_eq!(
            (&line["ours"], &line["peer"]),
            (&json!(12.0), &json!(120.0))
        );
        assert_eq!((&line["ratio"], &line["met"]), (&json!(11.0), &json!(true)));
        assert_eq!(line["goal"], "ratio >= 10");
        assert_eq!(line["spread"], json!([10.0, 20.0]));
        assert_eq!(line["samples"].as_array().unwrap().len(), 3);
        assert_eq!(line["peer_version"], "a peer 1.0");
        assert_eq!((&line["blocks"], &line["removes"]), (&json!(0), &json!(0)));
    }
}
