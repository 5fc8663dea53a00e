//! Nexmark through the engine: `cargo xtask bench nexmark [-- QUERY…]`.
//!
//! Events are made once, in memory, as Arrow batches; each query is SQL, planned by our planner, run by our dataflow on
//! one thread in steps, view included. Printed is how many million events it takes in per CPU-second of that thread,
//! all events counted for every query, beside the limit of operators wired by hand for it.
//!
//! `NEXMARK_EVENTS` (5,000,000), `NEXMARK_STEP` (16,384 events a step), `NEXMARK_RUNS` (3; the median is printed).

mod check;
mod events;
mod query;

use query::{QUERIES, Query};
use std::time::Duration;

const SEED: u64 = 42;

/// Events in a second of event time: the reference generator's default.
const EVENTS_PER_SECOND: u64 = 10_000;

/// Steps of the first, unmeasured pass: pages are mapped, caches are warm, the allocator has its arenas.
const WARM_UP_STEPS: usize = 16;

fn main() {
    // Cargo itself passes `--bench`.
    let names: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let Some(name) = names.iter().find(|name| QUERIES.iter().all(|(known, _, _)| known != name)) {
        eprintln!("no query '{name}'; there are: {}", QUERIES.map(|(name, _, _)| name).join(" "));
        std::process::exit(2);
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let (events, step, runs) =
        (setting("NEXMARK_EVENTS", 5_000_000), setting("NEXMARK_STEP", 16_384), setting("NEXMARK_RUNS", 3));

    println!("check, 20,000 events");
    check::check(wanted);

    let steps = events::generate(SEED, events, step, EVENTS_PER_SECOND);
    let bids: usize = steps.iter().map(|step| step.bid.num_rows()).sum();
    println!(
        "\n{events} events ({bids} bids), {} steps of {step}, {} s of event time; median of {runs} runs [least to most]; {}",
        steps.len(),
        events / EVENTS_PER_SECOND,
        if cfg!(debug_assertions) { "dev profile" } else { "release profile" },
    );
    println!(
        "M ev/s: million events per CPU-second of the engine's thread; with ckpt: telling changed state each 64 steps added"
    );
    println!(
        "{:<5} {:>7} {:>17} {:>9} {:>12} {:>8} {:>10} {:>11} {:>9} {:>9}",
        "query",
        "M ev/s",
        "[range]",
        "with ckpt",
        "hand-wired",
        "ratio",
        "view rows",
        "changes out",
        "state MB",
        "rss MB"
    );
    for (name, sql, limit) in QUERIES.iter().filter(|(name, _, _)| wanted(name)) {
        Query::new(name, sql).run(&steps[..steps.len().min(WARM_UP_STEPS)]);
        let rate = |time: Duration| events as f64 / time.as_secs_f64().max(1e-9) / 1e6;
        let mut measured = vec![];
        for _ in 0..runs.max(1) {
            let mut query = Query::new(name, sql);
            let cost = query.run(&steps);
            measured.push((
                rate(cost.steps),
                rate(cost.steps + cost.checkpoints),
                cost.changes,
                query.rows(),
                query.state(),
                resident_mb(),
            ));
        }
        measured.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (least, most) = (measured[0].0, measured[measured.len() - 1].0);
        let (median, with_checkpoints, changes, rows, (_, state, kept), resident) = measured[measured.len() / 2];
        let (limit_text, ratio) = match limit {
            Some((low, high)) => (format!("{low}-{high}"), format!("{:.4}", median / ((low + high) / 2.0))),
            None => ("-".to_owned(), "-".to_owned()),
        };
        println!(
            "{name:<5} {median:>7.3} {:>17} {with_checkpoints:>9.3} {limit_text:>12} {ratio:>8} {rows:>10} {changes:>11} {:>9} {resident:>9}",
            format!("[{least:.3} to {most:.3}]"),
            format!("{}+{}", state / 1_000_000, kept / 1_000_000),
        );
    }
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().filter(|value| *value > 0).unwrap_or_else(|| {
            eprintln!("{name} is '{text}', not a number above 0");
            std::process::exit(2);
        }),
        Err(_) => default,
    }
}

/// Memory of the process now, from the kernel; 0 where it does not say.
fn resident_mb() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4_096 / 1_000_000
}
