//! One build after another.
//!
//! ```text
//!            caught up: hold, take over          on probation
//! warming ──────────────────────────────> running ───────────────> running alone
//!    │ fails                                │ fails, or refuses more than the one before
//!    v                                      v
//! refused; what ran goes on              rolled back: the one before leads again,
//!                                        the new one's files are in quarantine
//! ```
//! While it warms up, the new build follows the running one: it handles no batch that
//! the other has not handled, its effects off. To take over, the running one holds at
//! a batch boundary until the new one stands where it stands. On probation it is the
//! other way round, so that the one before can take over as well.

use super::Worker;
use super::chains::announce;
use super::start::replace;
use crate::daemon::plugins::{Handle, Probation, Running, WARM_UP};
use crate::daemon::shards::Shards;
use crate::daemon::sinks::Outlets;
use penstock_plugin::{Role, State, Status};
use std::time::{Duration, Instant};

/// Batches that a caught-up build may be behind, events flowing.
const FEW: u64 = 64;
/// How long the running build may hold: events wait meanwhile. A new build that does
/// not make it in this time tries again.
const HOLD: Duration = Duration::from_millis(20);
/// The same for the last try, which must not fail for a call that takes long.
const LAST_HOLD: Duration = Duration::from_millis(200);
/// A role is taken up when the call under way is over.
const ROLE: Duration = Duration::from_secs(5);
/// Batches of a probation before refusals are compared.
const SAMPLE: u64 = 64;

/// What to do with a build that warms up.
enum Verdict {
    Wait,
    Refuse(String),
    Take,
}

impl Worker {
    /// Those that have caught up take over; those that fail are refused.
    pub(super) fn promote(&mut self) {
        let names: Vec<String> = self.warming_since.keys().cloned().collect();
        for name in names {
            match self.judge(&name) {
                Verdict::Wait => {}
                Verdict::Refuse(why) => self.give_up(&name, why),
                Verdict::Take => {
                    if let Err(why) = self.take_over(&name) {
                        self.give_up(&name, why);
                    }
                }
            }
        }
    }

    fn judge(&mut self, name: &str) -> Verdict {
        let Some(since) = self.warming_since.get(name).copied() else {
            return Verdict::Wait;
        };
        let table = self.plugins.lock();
        let entry = table.get(name);
        let pair = entry.and_then(|e| Some((e.running.as_ref()?, e.warming.as_ref()?)));
        let Some((old, new)) = pair else {
            drop(table);
            self.warming_since.remove(name);
            return Verdict::Wait;
        };
        let status = new.shards.status();
        if status.restarts > 0 || status.last_error.is_some() || status.state == State::Stopped {
            let error = status.last_error;
            let error = error.map(|e| format!("{}: {}", e.call, e.message));
            let error = error.unwrap_or_default();
            return Verdict::Refuse(format!("failed while catching up: {error}"));
        }
        let missed = new.shards.queued().missed;
        if new.inherits && missed > 0 {
            return Verdict::Refuse(format!(
                "could not keep up while catching up: {missed} batches were neither with the \
                 host nor with their engines any more; load it again when the node is less busy"
            ));
        }
        let shadow = new.shadow();
        let reads = new.shards.reads();
        let behind = new.shards.lag(&old.shards, &reads);
        let caught_up = behind.is_some_and(|b| b <= FEW);
        match since.elapsed() {
            passed if caught_up && passed >= shadow => Verdict::Take,
            passed if passed >= shadow + WARM_UP => Verdict::Take,
            _ => Verdict::Wait,
        }
    }

    /// The new build leads from the next batch on. An error refuses it; the running
    /// one goes on then.
    fn take_over(&mut self, name: &str) -> Result<(), String> {
        let plugins = self.plugins.clone();
        let found = {
            let table = plugins.lock();
            let entry = table.get(name);
            entry.and_then(|e| Some((e.running.as_ref()?.handle(), e.warming.as_ref()?.handle())))
        };
        let Some((old, new)) = found else {
            return Ok(());
        };
        let reads = new.shards.reads();
        let late = (self.warming_since.get(name)).is_some_and(|s| s.elapsed() > new.patience);
        let patience = if late { LAST_HOLD } else { HOLD };
        let held = Instant::now();
        let holds = old
            .shards
            .play(Role::Hold, if late { ROLE } else { patience });
        let stands = || new.shards.lag(&old.shards, &reads) == Some(0);
        while holds && !stands() && held.elapsed() < patience {
            std::thread::sleep(Duration::from_micros(200));
        }
        let caught_up = stands();
        if !holds || (!caught_up && !late) {
            // Busier than it seemed: another time.
            old.shards.play(Role::Lead(None), ROLE);
            return Ok(());
        }
        if let Err(error) = new.outlets.open(&old.outlets, &plugins.context) {
            old.shards.play(Role::Lead(None), ROLE);
            return Err(error.to_string());
        }
        if new.emits {
            announce(&plugins, name, &new.shards);
        }
        let after = Some(old.shards.trail.clone());
        new.shards.play(Role::Lead(after), ROLE);
        let pause = held.elapsed();
        let since = self.warming_since.remove(name);
        let mut table = plugins.lock();
        let Some(entry) = table.get_mut(name) else {
            return Ok(());
        };
        let Some(warming) = entry.warming.take() else {
            return Ok(());
        };
        let rules = warming.build.file.swap.clone();
        entry.generations = warming.generation;
        let shadow = warming.shards.status().shadow;
        let replaced = entry.running.replace(warming);
        let older = entry.before.take();
        entry.previous = replaced.as_ref().map(|old| old.build.clone());
        if std::mem::take(&mut entry.rolled_back) {
            entry.previous = None;
        }
        let stays = rules.probation_s > 0 && rules.probation_batches > 0;
        let begun = || Probation::begin(&rules, old.shards.status(), new.shards.status());
        entry.probation = stays.then(begun);
        let replaced = match stays {
            true => {
                entry.before = replaced;
                None
            }
            false => replaced,
        };
        drop(table);
        if stays {
            let trail = new.shards.trail.clone();
            old.shards.play(Role::Follow(trail, false), ROLE);
        }
        let kept = [
            Some(new.outlets.clone()),
            stays.then(|| old.outlets.clone()),
        ];
        let kept: Vec<_> = kept.iter().flatten().collect();
        // Who is ended is nobody's any more.
        drop((old, new));
        for gone in older.into_iter().chain(replaced) {
            self.end(gone, &kept);
        }
        if rules.shadow_s > 0 {
            let (same, different, unknown) = (shadow.same, shadow.different, shadow.unknown);
            tracing::info!(plugin = name, same, different, unknown, "shadow ended");
        }
        if !caught_up {
            tracing::warn!(plugin = name, "takes over before it has caught up");
        }
        let took = since.map(|since| since.elapsed()).unwrap_or_default();
        tracing::info!(
            plugin = name,
            "swapped after {took:?}, events held for {pause:?}"
        );
        metrics::histogram!("penstock_plugin_swap_pause_seconds", "plugin" => name.to_string())
            .record(pause.as_secs_f64());
        self.moved = true;
        self.deal_anew();
        Ok(())
    }

    /// The new build is refused, and what ran before goes on.
    fn give_up(&mut self, name: &str, why: String) {
        self.warming_since.remove(name);
        let mut table = self.plugins.lock();
        let Some(entry) = table.get_mut(name) else {
            return;
        };
        let new = entry.warming.take();
        // Its files put back as they were are no change.
        let running = entry.running.as_ref().map(|r| r.build.digest);
        drop(table);
        match running {
            Some(files) => self.digests.insert(name.into(), files),
            None => self.digests.remove(name),
        };
        self.refuse(name, why);
        if let Some(new) = new {
            self.plugins.retire(new, Duration::ZERO);
        }
    }

    /// Looks after builds on probation: they pass, or are rolled back.
    pub(super) fn prove(&mut self) {
        self.disable();
        let names: Vec<String> = {
            let table = self.plugins.lock();
            let on_probation = table.iter().filter(|(_, e)| e.probation.is_some());
            on_probation.map(|(name, _)| name.clone()).collect()
        };
        for name in names {
            let table = self.plugins.lock();
            let Some(entry) = table.get(&name) else {
                continue;
            };
            let (Some(running), Some(probation)) = (&entry.running, &entry.probation) else {
                continue;
            };
            let Some(before) = &entry.before else {
                continue;
            };
            let (new, old) = (running.shards.status(), before.shards.status());
            let worse = compare(probation, &new, &old);
            let over = probation.over(&new);
            let lost = old.state != State::Running || old.restarts > probation.old.restarts;
            drop(table);
            if new.state != State::Running || new.restarts > 0 {
                let error = new.last_error;
                let error = error.map(|e| format!("{}: {}: {}", e.call, e.code, e.message));
                let why = format!("failed on probation: {}", error.unwrap_or_default());
                self.roll_back(&name, &why, "failed");
            } else if let Some(why) = worse {
                self.roll_back(&name, &why, "errors");
            } else if lost {
                tracing::warn!(
                    plugin = name,
                    "the build before failed: there is no way back"
                );
                self.pass(&name);
            } else if over {
                tracing::info!(plugin = name, "probation passed");
                self.pass(&name);
            }
        }
    }

    /// What has failed for good is fed nothing any more.
    fn disable(&self) {
        let table = self.plugins.lock();
        let running = table.values().filter_map(|e| e.running.as_ref());
        let shards = running.flat_map(|r| &r.shards.list);
        let failed = shards.filter(|s| s.runner.status().state == State::Failed);
        let readings: Vec<_> = failed.map(|s| s.reading.clone()).collect();
        drop(table);
        readings.iter().for_each(|reading| reading.close());
    }

    /// An operator's wish: a plugin that is down runs again, those of its shards that do
    /// not run.
    pub(super) fn restart_by_hand(&mut self, name: &str) -> Result<u64, String> {
        let plugins = self.plugins.clone();
        let (handle, build, generation) = {
            let table = plugins.lock();
            let entry = table.get(name);
            let entry = entry.ok_or_else(|| format!("no plugin is called {name}"))?;
            let running = entry.running.as_ref().ok_or("it was not loaded")?;
            (running.handle(), running.build.clone(), running.generation)
        };
        let Handle {
            shards, outlets, ..
        } = handle;
        let states = shards.runners().map(|runner| runner.status().state);
        let states: Vec<_> = states.collect();
        if states.iter().all(|state| *state == State::Running) {
            return Err(format!("{name} runs: restart is for one that is down"));
        }
        let mut made = Vec::new();
        for (number, (shard, state)) in shards.list.iter().zip(&states).enumerate() {
            match state {
                State::Running => {}
                State::Failed => {
                    // Who holds has written all of its marks.
                    shard.runner.play(Role::Hold, ROLE);
                    shard.reading.close();
                    let new = replace(&plugins, name, &build, &outlets, (&shards, number));
                    made.push((number, new));
                }
                _ => shard.runner.revive(),
            }
        }
        if made.is_empty() {
            return Ok(generation);
        }
        let mut gone = Shards {
            list: Vec::new(),
            trail: shards.trail.clone(),
        };
        drop(shards);
        let mut result = Err("the daemon ends".into());
        let mut table = plugins.lock();
        if let Some(entry) = table.get_mut(name)
            && let Some(running) = entry.running.as_mut()
        {
            entry.generations += 1;
            running.generation = entry.generations;
            running.since = Instant::now();
            result = Ok(running.generation);
            for (number, new) in made {
                match (new, running.shards.list.get_mut(number)) {
                    (Ok(new), Some(old)) => gone.list.push(std::mem::replace(old, new)),
                    (Ok(new), None) => gone.list.push(new),
                    (Err(why), _) => result = Err(why),
                }
            }
        } else {
            gone.list
                .extend(made.into_iter().filter_map(|(_, new)| new.ok()));
        }
        drop(table);
        gone.retire(Duration::ZERO);
        result
    }

    /// The new build stays.
    pub(super) fn pass(&mut self, name: &str) {
        let (before, kept) = {
            let mut table = self.plugins.lock();
            let Some(entry) = table.get_mut(name) else {
                return;
            };
            entry.probation = None;
            let kept = entry.running.as_ref().map(|r| r.outlets.clone());
            (entry.before.take(), kept.unwrap_or_default())
        };
        if let Some(before) = before {
            self.end(before, &[&kept]);
        }
    }

    /// Back to the build before, while it is still there: true if it was.
    pub(super) fn roll_back(&mut self, name: &str, why: &str, reason: &'static str) -> bool {
        let plugins = self.plugins.clone();
        let found = {
            let table = plugins.lock();
            let entry = table.get(name);
            entry.and_then(|e| Some((e.before.as_ref()?.handle(), e.running.as_ref()?.handle())))
        };
        let Some((old, new)) = found else {
            return false;
        };
        // A call that goes on is cut short when it is retired.
        new.shards.play(Role::Hold, LAST_HOLD);
        if let Err(error) = old.outlets.open(&new.outlets, &plugins.context) {
            tracing::error!(
                plugin = name,
                "a sink of the build before cannot open: {error}"
            );
        }
        if old.emits {
            announce(&plugins, name, &old.shards);
        }
        let after = Some(new.shards.trail.clone());
        old.shards.play(Role::Lead(after), ROLE);
        let mut table = plugins.lock();
        let Some(entry) = table.get_mut(name) else {
            return false;
        };
        let gone = std::mem::replace(&mut entry.running, entry.before.take());
        entry.probation = None;
        entry.previous = None;
        let files = entry.running.as_ref().map(|r| r.build.digest);
        let generation = entry.running.as_ref().map_or(0, |r| r.generation);
        if let Some(gone) = &gone {
            entry.quarantine.insert(gone.build.digest, why.to_owned());
        }
        drop(table);
        if let Some(files) = files {
            self.digests.insert(name.into(), files);
        }
        if self.warming_since.contains_key(name) {
            // It followed the build that goes: it is begun again.
            self.drop_warming(name);
            self.tried.remove(name);
        }
        self.moved = true;
        self.deal_anew();
        count(name, reason);
        self.refuse(
            name,
            format!("rolled back to generation {generation}: {why}"),
        );
        let kept = old.outlets.clone();
        drop((old, new));
        if let Some(gone) = gone {
            self.end(gone, &[&kept]);
        }
        true
    }

    /// An operator's wish: back to the build before, running or not.
    pub(super) fn roll_back_by_hand(&mut self, name: &str) -> Result<u64, String> {
        const WHY: &str = "by hand";
        if !self.roll_back(name, WHY, "hand") {
            let (previous, current) = {
                let table = self.plugins.lock();
                let entry = table.get(name);
                let entry = entry.ok_or_else(|| format!("no plugin is called {name}"))?;
                let current = entry.running.as_ref().map(|r| r.build.digest);
                (entry.previous.clone(), current)
            };
            let previous = previous
                .ok_or("there is no build before the one that runs: nothing was swapped")?;
            if let Some(why) = self.cannot_follow(name, &previous.file.after) {
                return Err(why);
            }
            let digest = previous.digest;
            self.start(name, previous)?;
            self.digests.insert(name.into(), digest);
            if let (Some(entry), Some(current)) = (self.plugins.lock().get_mut(name), current) {
                entry.quarantine.insert(current, WHY.into());
                entry.rolled_back = true;
            }
            count(name, "hand");
        }
        let table = self.plugins.lock();
        let entry = table.get(name);
        let runs = entry.and_then(|e| e.warming.as_ref().or(e.running.as_ref()));
        Ok(runs.map_or(0, |r| r.generation))
    }

    /// Takes an instance out of service, and those of its sinks that nobody shares.
    fn end(&self, gone: Running, kept: &[&Outlets]) {
        let outlets = gone.outlets.clone();
        self.plugins.retire(gone, Duration::ZERO);
        outlets.retire(kept);
    }
}

/// Whether the new build refuses or fails more than the one before, and how much.
fn compare(probation: &Probation, new: &Status, old: &Status) -> Option<String> {
    if probation.batches(new) < SAMPLE {
        return None;
    }
    // Both are fed the same batches, and neither status is of the same moment: as if
    // all that the other has not handled yet were refused.
    let refused = |now: &Status, then: &Status| now.refusals.saturating_sub(then.refusals);
    let events = |now: &Status, then: &Status| now.events.saturating_sub(then.events);
    let lag = events(new, &probation.new).saturating_sub(events(old, &probation.old));
    let theirs = refused(old, &probation.old).saturating_add(lag);
    let ours = refused(new, &probation.new);
    if ours > theirs {
        let all = events(new, &probation.new);
        return Some(format!(
            "refuses {ours} of {all} events, the build before at most {theirs}"
        ));
    }
    let rate = |bad: u64, all: u64| bad as f64 / all.max(1) as f64;
    // Only one of them is asked.
    let before = &probation.old;
    let theirs = rate(
        before.lookup_failures,
        before.lookups + before.lookup_failures,
    );
    let asked = new.lookups + new.lookup_failures;
    let ours = rate(new.lookup_failures, asked);
    (asked >= SAMPLE && ours > theirs).then(|| {
        format!(
            "fails {:.2} % of the lookups, the build before {:.2} %",
            ours * 100.0,
            theirs * 100.0
        )
    })
}

fn count(plugin: &str, reason: &'static str) {
    metrics::counter!(
        "penstock_plugin_rollbacks_total", "plugin" => plugin.to_string(), "reason" => reason
    )
    .increment(1);
}
