//! What people and scripts see: the bar, the table, the JSON line.

use crate::lookups::{Asked, Door, Shared};
use crate::options::Options;
use crate::script::{Played, total};
use crate::verify::Verdict;
use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use penstock_peer::engine::Summary;
use penstock_query::SourceStatus;
use serde::Serialize;
use std::io::IsTerminal;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Comparisons while events flow that make a run count.
const LEAST_CHECKED: u64 = 1_000;

/// Lines of the daemon's log shown after a failure.
const LOG_LINES: usize = 30;

/// The bar on the terminal; without one, only the story's lines.
pub struct Bar {
    bar: ProgressBar,
}

/// The JSON line. Times are in the unit that the name ends with.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// Nothing below speaks against it.
    pub ok: bool,
    /// Events published.
    pub events: u64,
    /// Blocks stored in them.
    pub blocks: u64,
    /// Batches published.
    pub batches: u64,
    /// Batches that came out behind the forward plugin.
    pub delivered: u64,
    /// Batches that engines did not send live, on purpose.
    pub dropped: u64,
    /// Lookups answered.
    pub lookups: u64,
    /// Lookups that got an error or nothing.
    pub lookups_failed: u64,
    /// Lookups that found a prefix.
    pub hits: u64,
    /// Tokens found by those, median.
    pub hit_p50: u64,
    /// As above, 90th percentile.
    pub hit_p90: u64,
    /// As above, the longest.
    pub hit_max: u64,
    /// Swaps of the index.
    pub swaps: u64,
    /// From the file's drop to the new build at work.
    pub swap_ms: Option<u64>,
    /// Slowest answer meanwhile.
    pub swap_slowest_us: Option<u64>,
    /// Restarts that the daemon saw.
    pub restarts_seen: u64,
    /// From the engine's restart to the daemon's knowing.
    pub restart_ms: Option<u64>,
    /// Gaps that opened.
    pub gaps: u64,
    /// Gaps that replay closed.
    pub gaps_filled: u64,
    /// Batches reported missing.
    pub missing: u64,
    /// Neither delivered nor reported.
    pub lost: u64,
    /// Delivered more than once.
    pub doubled: u64,
    /// Answers that the oracle contradicts.
    pub wrong: u64,
    /// Answers compared, a source at a time.
    pub checked: u64,
    /// Those asked while events flowed.
    pub checked_live: u64,
    /// Answers not compared: marked incomplete, or before the first batch.
    pub incomplete: u64,
    /// Answers over ZeroMQ, median.
    pub lookup_p50_us: u64,
    /// As above, 99th percentile.
    pub lookup_p99_us: u64,
    /// Answers over HTTP, median.
    pub http_p50_us: u64,
    /// As above, 99th percentile.
    pub http_p99_us: u64,
    /// Engines published for so long.
    pub publishing_s: f64,
    /// The daemon's way from SIGTERM to its end.
    pub drain_ms: u64,
    /// The whole demo.
    pub seconds: f64,
    /// What speaks against it.
    pub reasons: Vec<String>,
}

// === impl Bar ===

impl Bar {
    /// A bar over the time that engines publish.
    pub fn new(options: &Options) -> Self {
        let bar = ProgressBar::new(options.seconds * 10);
        let style = "{elapsed:>4} {bar:30} {msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        if options.json || !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self { bar }
    }

    /// A line of the story, on standard error.
    pub fn say(&self, line: &str) {
        let at = self.bar.elapsed().as_secs_f64();
        self.bar.suspend(|| eprintln!("{at:6.1} s  {line}"));
    }

    /// The numbers now.
    pub fn show(
        &self,
        passed: Duration,
        engines: &Summary,
        sources: &[SourceStatus],
        asked: &Shared,
    ) {
        if self.bar.is_hidden() {
            return;
        }
        let sum = |name| sources.iter().map(|s| total(s, name)).sum::<u64>();
        if !passed.is_zero() {
            self.bar.set_position((passed.as_millis() / 100) as u64);
        }
        self.bar.set_message(format!(
            "{} events, {} blocks, {} lookups ({} hits), gaps {}/{} filled, restarts {}",
            engines.events,
            engines.blocks,
            asked.asked.load(Relaxed),
            asked.hits.load(Relaxed),
            sum("gaps_filled"),
            sum("gaps"),
            sum("restarts"),
        ));
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

// === impl Outcome ===

impl Outcome {
    /// The numbers, and what they mean.
    pub fn new(played: &Played, verdict: &Verdict, seconds: Duration) -> Self {
        let sum = |name| played.sources.iter().map(|s| total(s, name)).sum::<u64>();
        let asked = &played.answers.asked;
        let mut hits: Vec<u64> = asked.iter().map(|a| u64::from(a.longest())).collect();
        hits.retain(|tokens| *tokens > 0);
        hits.sort_unstable();
        let times = |door| {
            let of_door = asked.iter().filter(|a| a.door == door && a.flowing);
            let mut times: Vec<u64> = of_door.map(micros).collect();
            times.sort_unstable();
            times
        };
        let (zmq, http) = (times(Door::Zmq), times(Door::Http));
        let millis = |d: Duration| d.as_millis() as u64;
        let mut outcome = Self {
            ok: false,
            events: played.engines.events,
            blocks: played.engines.blocks,
            batches: verdict.published,
            delivered: verdict.delivered,
            dropped: played.engines.dropped,
            lookups: asked.len() as u64,
            lookups_failed: played.answers.failed.values().sum(),
            hits: hits.len() as u64,
            hit_p50: percentile(&hits, 50),
            hit_p90: percentile(&hits, 90),
            hit_max: percentile(&hits, 100),
            swaps: played.swaps,
            swap_ms: played.swap.map(|(_, took)| millis(took)),
            swap_slowest_us: played.swap.and_then(|swap| slowest(asked, swap)),
            restarts_seen: sum("restarts"),
            restart_ms: played.restart.map(millis),
            gaps: sum("gaps"),
            gaps_filled: sum("gaps_filled"),
            missing: sum("missing"),
            lost: verdict.lost,
            doubled: verdict.doubled,
            wrong: verdict.wrong,
            checked: verdict.checked,
            checked_live: verdict.checked_live,
            incomplete: verdict.incomplete,
            lookup_p50_us: percentile(&zmq, 50),
            lookup_p99_us: percentile(&zmq, 99),
            http_p50_us: percentile(&http, 50),
            http_p99_us: percentile(&http, 99),
            publishing_s: played.length.as_secs_f64(),
            drain_ms: millis(played.draining),
            seconds: seconds.as_secs_f64(),
            reasons: Vec::new(),
        };
        outcome.reasons = outcome.against(played, verdict);
        outcome.ok = outcome.reasons.is_empty();
        outcome
    }

    fn against(&self, played: &Played, verdict: &Verdict) -> Vec<String> {
        let mut reasons = Vec::new();
        let mut say = |bad: bool, why: String| {
            if bad {
                reasons.push(why);
            }
        };
        say(self.lost > 0, format!("{} batches lost", self.lost));
        say(
            self.doubled > 0,
            format!("{} batches delivered twice", self.doubled),
        );
        say(self.wrong > 0, format!("{} answers wrong", self.wrong));
        for example in &verdict.examples {
            say(true, format!("  {example}"));
        }
        say(
            self.gaps == 0,
            "no gap was found, though frames were dropped".into(),
        );
        say(self.gaps_filled == 0, "no gap was filled by replay".into());
        say(self.swaps == 0, "the index was not swapped".into());
        say(
            self.restarts_seen == 0,
            "the engine's restart was not seen".into(),
        );
        let few = self.checked_live < LEAST_CHECKED;
        say(
            few,
            format!(
                "{} answers compared while events flowed; {LEAST_CHECKED} are needed",
                self.checked_live
            ),
        );
        match played.exit {
            Some(status) => say(!status.success(), format!("the daemon ended with {status}")),
            None => say(true, "the daemon did not end after SIGTERM".into()),
        }
        if !reasons.is_empty() {
            reasons.extend(played.late.iter().cloned());
        }
        reasons
    }
}

/// The numbers for people.
pub fn table(outcome: &Outcome, played: &Played) -> Table {
    let o = outcome;
    let ms = |ms: Option<u64>| ms.map_or("never".into(), |ms| format!("after {ms} ms"));
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["what", "number", ""]);
    let mut row = |what: &str, number: u64, rest: String| {
        table.add_row([what.to_string(), number.to_string(), rest]);
    };
    let rate = |n: u64| format!("{:.0}/s", n as f64 / o.publishing_s.max(0.001));
    row(
        "batches",
        o.batches,
        format!("{}, {} delivered", rate(o.batches), o.delivered),
    );
    row("events", o.events, rate(o.events));
    row("blocks", o.blocks, rate(o.blocks));
    row(
        "lookups",
        o.lookups,
        format!(
            "ZeroMQ p50 {} µs, p99 {} µs; HTTP p50 {} µs, p99 {} µs",
            o.lookup_p50_us, o.lookup_p99_us, o.http_p50_us, o.http_p99_us
        ),
    );
    row(
        "hits",
        o.hits,
        format!(
            "tokens: p50 {}, p90 {}, longest {}",
            o.hit_p50, o.hit_p90, o.hit_max
        ),
    );
    let slowest = o.swap_slowest_us.map_or(String::new(), |us| {
        format!(", slowest answer meanwhile {us} µs")
    });
    row("swaps", o.swaps, format!("{}{slowest}", ms(o.swap_ms)));
    row("restarts seen", o.restarts_seen, ms(o.restart_ms));
    row("dropped on purpose", o.dropped, String::new());
    row(
        "gaps",
        o.gaps,
        format!(
            "{} filled by replay, {} batches reported missing",
            o.gaps_filled, o.missing
        ),
    );
    row(
        "lost",
        o.lost,
        format!("of {} batches; {} doubled", o.batches, o.doubled),
    );
    row(
        "wrong",
        o.wrong,
        format!(
            "of {} compared, {} of them while events flowed",
            o.checked, o.checked_live
        ),
    );
    row(
        "not compared",
        o.incomplete,
        "answers that say they are incomplete".into(),
    );
    let why = played
        .answers
        .failed
        .iter()
        .map(|(why, n)| format!("{n} {why}"));
    row(
        "lookups failed",
        o.lookups_failed,
        why.collect::<Vec<_>>().join("; "),
    );
    row(
        "seconds",
        o.seconds as u64,
        format!(
            "{:.1} s of events, daemon drained in {} ms",
            o.publishing_s, o.drain_ms
        ),
    );
    table
}

/// The end of the daemon's log, on standard error.
pub fn daemon_log(output: &str) {
    let grave = |line: &&str| line.contains("ERROR") || line.contains("WARN");
    let all: Vec<&str> = output.lines().collect();
    let graver: Vec<&str> = all.iter().copied().filter(grave).collect();
    let lines = if graver.is_empty() { all } else { graver };
    for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
        eprintln!("  | {line}");
    }
}

fn micros(asked: &Asked) -> u64 {
    asked.took.as_micros() as u64
}

/// The slowest lookup that was under way during a time.
fn slowest(asked: &[Asked], (from, long): (std::time::Instant, Duration)) -> Option<u64> {
    let during = asked
        .iter()
        .filter(|a| a.at < from + long && a.at + a.took > from);
    during.map(micros).max()
}

/// Of sorted values; 0 without any.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(at).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<u64> = (1..=10).collect();
        for (percent, value) in [(50, 5), (90, 9), (99, 10), (100, 10)] {
            assert_eq!(percentile(&values, percent), value);
        }
        assert_eq!(percentile(&[], 50), 0);
        assert_eq!(percentile(&[7], 99), 7);
    }
}
