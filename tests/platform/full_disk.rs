//! A disk that fills up at any write: one clear error, nothing acknowledged lost, and all right again once there is
//! space and the platform is started anew.

use crate::crash::{PROJECT, check, produce_until_crash, run, tick};
use crate::harness::{flush, get, progress, within, write_project};
use rivermere_sim::World;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// Rounds of two records each.
const ROUNDS: usize = 8;

/// What one run on a disk that fills up told.
#[derive(Debug)]
struct Told {
    acknowledged: usize,
    /// Refused to start, stopped, or could not write a table.
    error: Option<String>,
}

/// Starts, produces and stops, while the `nth` write finds no space (with `lasting`, all later ones, too).
async fn fill_up_at(world: &World, project: &std::path::Path, nth: u64, lasting: bool) -> Told {
    world.disk.fail_write_at(nth, ErrorKind::StorageFull, lasting);
    let assembly = match run(world, project).await {
        Ok(assembly) => assembly,
        Err(problem) => return Told { acknowledged: 0, error: Some(problem.to_string()) },
    };
    let acknowledged = produce_until_crash(&assembly, world, 0, ROUNDS).await;
    let flushed = tokio::time::timeout(Duration::from_secs(60), assembly.flush()).await;
    let told = get(&assembly, "/v1/status")["message"].as_str().map(str::to_owned);
    let stopped = tokio::time::timeout(Duration::from_secs(60), assembly.stop()).await;
    let stopped = stopped.unwrap_or_else(|_| panic!("write {nth}, lasting {lasting}: it does not stop; told {told:?}"));
    let flushed = flushed.ok().and_then(Result::err).map(|problem| problem.to_string());
    Told { acknowledged, error: told.or(flushed).or(stopped.err().map(|problem| problem.to_string())) }
}

/// Writes that a run without trouble makes.
async fn writes_of_a_run() -> u64 {
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), PROJECT);
    let world = World::new(1);
    tick(&world);
    let told = fill_up_at(&world, folder.path(), u64::MAX / 2, false).await;
    assert!(told.error.is_none() && told.acknowledged == 2 * ROUNDS, "{told:?}");
    world.disk.operations().mutations
}

async fn fill_up_everywhere(every: impl Fn(u64) -> Vec<u64>) {
    let writes = writes_of_a_run().await;
    for nth in every(writes) {
        for lasting in [false, true] {
            let (name, start) = (format!("write {nth} of {writes}, lasting {lasting}"), Instant::now());
            let folder = tempfile::tempdir().unwrap();
            write_project(folder.path(), PROJECT);
            let world = World::new(nth);
            tick(&world);
            let told = fill_up_at(&world, folder.path(), nth, lasting).await;
            // Runs differ in their timing: this one may have ended before that write.
            let filled = world.disk.operations().mutations >= nth;
            let all = told.acknowledged == 2 * ROUNDS;
            assert!(!lasting || !filled || !all || told.error.is_some(), "{name}: nobody was told: {told:?}");
            if let Some(error) = &told.error {
                assert!(error.starts_with("RM-"), "{name}: {error}");
                assert!(error.contains("space"), "{name}: {error}");
            }
            world.disk.clear_faults();
            let again = run(&world, folder.path()).await.unwrap_or_else(|problem| panic!("{name}: {problem}"));
            check(&again, told.acknowledged, &name).await;
            let more = produce_until_crash(&again, &world, 1_000, 2).await;
            assert_eq!(more, 4, "{name}: it takes records again");
            check(&again, told.acknowledged + more, &name).await;
            within(&name, again.stop()).await.unwrap_or_else(|problem| panic!("{name}: {problem}"));
            progress(&format!("{name}: {told:?}, right again after {:?}", start.elapsed()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_loses_nothing() {
    // A dozen writes from the first to the last; the full run takes every one.
    fill_up_everywhere(|writes| (0..12).map(|part| 1 + part * writes.saturating_sub(1) / 11).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of the full run"]
async fn a_disk_that_fills_up_at_any_write_loses_nothing() {
    fill_up_everywhere(|writes| (1..=writes).collect()).await;
}

/// An epoch that was asked for and found no space is the last one: were the engine to go on, the next manifest would
/// name positions behind changes that no run holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_finds_no_space_is_the_last() {
    for nth in 1..=8 {
        let folder = tempfile::tempdir().unwrap();
        write_project(folder.path(), PROJECT);
        // Nothing seals but what asks for it.
        let settings = "name = \"test\"\ncommit_interval_s = 0\nepoch_interval_ms = 3600000\n";
        std::fs::write(folder.path().join("rivermere.toml"), settings).unwrap();
        let world = World::new(nth);
        tick(&world);
        let assembly = run(&world, folder.path()).await.unwrap_or_else(|problem| panic!("{problem}"));
        flush(&assembly).await;
        let acknowledged = produce_until_crash(&assembly, &world, 0, 4).await;
        world.disk.fail_write_at(nth, ErrorKind::StorageFull, false);
        let flushed = within("the flush", assembly.flush()).await;
        let stopped = within("the end", assembly.stop()).await;
        println!("write {nth}: {flushed:?}, then {stopped:?}");
        let again = run(&world, folder.path()).await.unwrap_or_else(|problem| panic!("write {nth}: {problem}"));
        flush(&again).await;
        check(&again, acknowledged, &format!("write {nth}")).await;
        within("the end", again.stop()).await.unwrap_or_else(|problem| panic!("write {nth}: {problem}"));
    }
}
