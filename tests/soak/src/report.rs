//! What came of it, as a table and as one JSON object.

use crate::options::Options;
use crate::story::Played;
use crate::waits::Phase;
use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};
use serde::Serialize;

/// What others may take of the machine while a swap counts as undisturbed.
const QUIET: f64 = 0.1;

/// The JSON line. Times are in the unit that the name ends with.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// Nothing below speaks against it.
    pub ok: bool,
    /// Swaps that came into effect.
    pub swaps: u64,
    /// Batches published that never came out.
    pub lost: u64,
    /// Batches that came out again.
    pub doubled: u64,
    /// Batches that came out with another content or epoch, or not in order.
    pub wrong: u64,
    pub failed_swaps: u64,
    /// The longest wait of any batch or lookup in a swap's time, 99th percentile over
    /// swaps.
    pub pause_p99_ms: f64,
    pub pause_p50_ms: f64,
    pub pause_max_ms: f64,
    /// Swaps during which other programs took at most a tenth of the machine, and
    /// the pauses of these alone.
    pub quiet_swaps: u64,
    pub quiet_pause_p99_ms: f64,
    pub quiet_pause_max_ms: f64,
    /// What other programs took of the machine while swaps went on, 0 to 1.
    pub others_cpu: f64,
    /// The same of lookups alone, and of batches alone.
    pub lookup_pause_p99_ms: f64,
    pub batch_pause_p99_ms: f64,
    /// Of single waits without swaps: the larger one of batches' and lookups'.
    pub baseline_p99_ms: f64,
    /// The longest wait without swaps.
    pub baseline_max_ms: f64,
    /// Of single waits while swaps go on.
    pub batch_p99_ms: f64,
    pub lookup_p99_ms: f64,
    /// From dropping a file to the new build at work.
    pub swap_p50_ms: f64,
    pub swap_max_ms: f64,
    pub blocks_held: u64,
    /// While swaps went on.
    pub batches_per_s: f64,
    /// Before, at full speed.
    pub max_batches_per_s: f64,
    pub batches: u64,
    pub lookups: u64,
    pub lookups_failed: u64,
    pub hits: u64,
    pub distinct_generations: u64,
    /// Sources whose state was not taken over by a new build.
    pub rebuilt_by_replay: u64,
    /// The daemon's resident memory before the first swap and after the last.
    pub memory_start_bytes: u64,
    pub memory_end_bytes: u64,
    /// What speaks against it.
    #[serde(skip)]
    pub reasons: Vec<String>,
}

// === impl Outcome ===

impl Outcome {
    pub fn new(played: Played, expected_blocks: u64, options: &Options) -> Self {
        let (verdict, asked) = (played.verdict, played.asked);
        let (lookups, hits) = (asked.waits.count(Phase::Swaps), asked.hits);
        let calm = asked.waits.percentile(Phase::Calm, 0.99);
        let lookup_p99_ms = asked.waits.percentile(Phase::Swaps, 0.99);
        let of_lookups = asked.waits.into_longest();
        let windows = || played.windows.iter().zip(played.windows.iter().skip(1));
        let pauses = |longest: &crate::waits::Longest| -> Vec<f64> {
            windows()
                .map(|(from, to)| longest.between(*from, *to))
                .collect()
        };
        let (asked_pauses, batch_pauses) = (pauses(&of_lookups), pauses(&verdict.longest));
        let both = asked_pauses.iter().zip(&batch_pauses);
        let all: Vec<f64> = both.map(|(a, b)| a.max(*b)).collect();
        let cpu = &played.cpu;
        let others = cpu.iter().zip(cpu.iter().skip(1)).map(|(a, b)| a.others(b));
        let quiet = others.zip(&all).filter(|(others, _)| *others <= QUIET);
        let quiet: Vec<f64> = quiet.map(|(_, pause)| *pause).collect();
        let ends = cpu.first().zip(cpu.last());
        let first = played.windows.first().copied().unwrap_or(0);
        let of_calm = [&of_lookups, &verdict.longest].map(|l| l.between(played.calm, first));
        let mut outcome = Self {
            ok: false,
            swaps: played.took_ms.len() as u64,
            lost: verdict.lost,
            doubled: verdict.doubled,
            wrong: verdict.wrong,
            failed_swaps: played.failed.len() as u64,
            pause_p99_ms: percentile(&all, 0.99),
            pause_p50_ms: percentile(&all, 0.5),
            pause_max_ms: percentile(&all, 1.0),
            quiet_swaps: quiet.len() as u64,
            quiet_pause_p99_ms: percentile(&quiet, 0.99),
            quiet_pause_max_ms: percentile(&quiet, 1.0),
            others_cpu: ends.map_or(0.0, |(first, last)| first.others(last)),
            lookup_pause_p99_ms: percentile(&asked_pauses, 0.99),
            batch_pause_p99_ms: percentile(&batch_pauses, 0.99),
            baseline_p99_ms: calm.max(verdict.calm_p99_ms),
            baseline_max_ms: of_calm[0].max(of_calm[1]),
            batch_p99_ms: verdict.swaps_p99_ms,
            lookup_p99_ms,
            swap_p50_ms: percentile(&played.took_ms, 0.5),
            swap_max_ms: percentile(&played.took_ms, 1.0),
            blocks_held: played.blocks,
            batches_per_s: played.rate.round(),
            max_batches_per_s: played.max_rate.round(),
            batches: verdict.published,
            lookups,
            lookups_failed: asked.failed,
            hits,
            distinct_generations: played.generations.len() as u64,
            rebuilt_by_replay: played.fed_anew,
            memory_start_bytes: played.memory.0,
            memory_end_bytes: played.memory.1,
            reasons: played.failed,
        };
        outcome.judge(played.missed, expected_blocks, options);
        outcome.reasons.extend(verdict.examples);
        outcome.reasons.extend(asked.why);
        outcome.ok = outcome.reasons.is_empty();
        outcome
    }

    fn judge(&mut self, missed: u64, blocks: u64, options: &Options) {
        let limit = options.pause_limit_ms;
        for (bad, why) in [
            (self.swaps == 0, "no swap came into effect".into()),
            (self.lost > 0, format!("{} batches were lost", self.lost)),
            (
                self.doubled > 0,
                format!("{} batches came twice", self.doubled),
            ),
            (self.wrong > 0, format!("{} batches were wrong", self.wrong)),
            (
                missed > 0,
                format!("the plugin was not given {missed} batches"),
            ),
            (self.hits == 0, "no lookup found anything".into()),
            (
                self.lookups_failed > 0,
                format!("{} lookups failed", self.lookups_failed),
            ),
            (
                self.blocks_held != blocks,
                format!("{} blocks are held, not {blocks}", self.blocks_held),
            ),
            (
                self.distinct_generations != self.swaps + 1,
                format!(
                    "{} generations after {} swaps",
                    self.distinct_generations, self.swaps
                ),
            ),
            (
                self.rebuilt_by_replay > 0,
                format!("state was not taken over {} times", self.rebuilt_by_replay),
            ),
            (
                self.pause_p99_ms > limit,
                format!(
                    "pauses: 99th percentile {:.1} ms, above {limit} ms",
                    self.pause_p99_ms
                ),
            ),
        ] {
            if bad {
                self.reasons.push(why);
            }
        }
    }

    /// What people read.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        let ms = |ms: f64| format!("{ms:.1} ms");
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        let (p50, max) = (ms(self.pause_p50_ms), ms(self.pause_max_ms));
        let (each, longest) = (ms(self.swap_p50_ms), ms(self.swap_max_ms));
        let Self {
            failed_swaps,
            batches,
            doubled,
            wrong,
            lookups_failed,
            rebuilt_by_replay,
            ..
        } = self;
        for (what, figure, more) in [
            (
                "swaps",
                self.swaps.to_string(),
                format!("{failed_swaps} failed; {each} each, at most {longest}"),
            ),
            (
                "lost",
                self.lost.to_string(),
                format!("of {batches} batches; {doubled} doubled, {wrong} wrong"),
            ),
            (
                "pause",
                ms(self.pause_p99_ms),
                format!("p99 over swaps; p50 {p50}, max {max}"),
            ),
            (
                "  undisturbed",
                ms(self.quiet_pause_p99_ms),
                format!(
                    "{} swaps, max {}",
                    self.quiet_swaps,
                    ms(self.quiet_pause_max_ms)
                ),
            ),
            (
                "without swaps",
                ms(self.baseline_p99_ms),
                format!("p99 over waits; max {}", ms(self.baseline_max_ms)),
            ),
            (
                "load",
                format!("{}/s", self.batches_per_s),
                format!("batches; at most {}/s", self.max_batches_per_s),
            ),
            (
                "lookups",
                self.lookups.to_string(),
                format!("p99 {}; {lookups_failed} failed", ms(self.lookup_p99_ms)),
            ),
            (
                "blocks held",
                self.blocks_held.to_string(),
                format!("state not taken over {rebuilt_by_replay} times"),
            ),
            (
                "memory",
                mib(self.memory_end_bytes),
                format!("{} before the first swap", mib(self.memory_start_bytes)),
            ),
        ] {
            table.add_row([what.into(), figure, more]);
        }
        table
    }
}

/// The value that `share` of them do not exceed; 0 without any.
fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 0.99), 198.0);
        assert_eq!(percentile(&values, 0.5), 100.0);
        assert_eq!(percentile(&values, 1.0), 200.0);
        assert_eq!(percentile(&[], 0.99), 0.0);
    }
}
