//! Law 2: any crash point + restart == no crash. The whole platform runs on a simulated disk that stops at the point and
//! loses what was not synced; the next start must find every acknowledged record once, and views and tables that agree.

use crate::harness::{
    PATIENCE, assert_views_equal_batch, eventually, flush, get, progress, settings, sorted, sql, within, write_project,
};
use rivermere::{Assembly, Project};
use rivermere_base::{CrashPoint, TopicName};
use rivermere_log::kafka::client::KafkaClient;
use rivermere_log::records::{Compression, Record, encode};
use rivermere_sim::World;
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) const PROJECT: &str = "
CREATE TABLE moves (account BIGINT NOT NULL, amount BIGINT NOT NULL);
CREATE MATERIALIZED VIEW all_moves STORED AS DELTA AS SELECT account, amount FROM moves;
CREATE MATERIALIZED VIEW balances STORED AS DELTA AS SELECT account, SUM(amount) AS balance, COUNT(*) AS n FROM moves GROUP BY account;
";

/// Transfers: each record moves money from one account to another, so that the sum stays 0.
fn transfers(from: usize, count: usize) -> Vec<String> {
    (from..from + count)
        .flat_map(|number| {
            let amount = (number * 7 % 100) as i64;
            let (a, b) = (number % 5, (number + 1) % 5);
            [format!(r#"{{"account":{a},"amount":-{amount}}}"#), format!(r#"{{"account":{b},"amount":{amount}}}"#)]
        })
        .collect()
}

/// Time goes by in the simulated world, too.
pub(crate) fn tick(world: &World) {
    let clock = world.clock.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            clock.advance(std::time::Duration::from_millis(5));
        }
    });
}

pub(crate) async fn run(world: &World, project: &Path) -> Result<Assembly, rivermere::Problem> {
    within("the start", Assembly::start(world.doors(), Project::load(project)?, settings(&project.join("data")))).await
}

/// Produces until the world ends; how many records were acknowledged.
pub(crate) async fn produce_until_crash(assembly: &Assembly, world: &World, from: usize, rounds: usize) -> usize {
    let Ok(mut client) = KafkaClient::connect(assembly.addresses().kafka.unwrap().parse().unwrap()).await else {
        return 0;
    };
    let mut acknowledged = 0;
    for round in 0..rounds {
        let mut records: Vec<Record> = transfers(from + round, 1)
            .into_iter()
            .map(|value| Record { value: Some(value.into()), ..Record::default() })
            .collect();
        if round % 4 == 3 {
            records.push(Record { value: Some("broken".into()), ..Record::default() });
        }
        let batch = encode(&records, Compression::None).unwrap();
        let topic = TopicName::new("moves").unwrap();
        let produced = client.produce(&topic, rivermere_base::PartitionId(0), batch);
        // Nobody answers any more after a crash.
        let crashed = async {
            while !world.disk.is_crashed() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        };
        tokio::select! {
            produced = tokio::time::timeout(PATIENCE, produced) => match produced {
                Ok(Ok(_)) => acknowledged += 2,
                _ => break,
            },
            () = crashed => break,
        }
        if world.disk.is_crashed() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(15)).await;
    }
    acknowledged
}

async fn settled(assembly: &Assembly) {
    eventually("the platform to settle", || {
        if let Some(message) = get(assembly, "/v1/status")["message"].as_str() {
            panic!("{message}");
        }
        assembly.is_settled().then_some(())
    })
    .await;
    flush(assembly).await;
}

pub(crate) async fn check(assembly: &Assembly, acknowledged: usize, point: &str) {
    settled(assembly).await;
    assert_views_equal_batch(assembly);
    let count = sql(assembly, "SELECT COUNT(*) AS n FROM moves").unwrap()[0]["n"].as_u64().unwrap() as usize;
    assert!(count >= acknowledged, "{point}: {acknowledged} records were acknowledged, {count} are there");
    assert_eq!(count % 2, 0, "{point}: a transfer was cut in two");
    let total = sql(assembly, "SELECT COALESCE(SUM(balance), 0) AS total FROM balances").unwrap();
    assert_eq!(total[0]["total"], 0, "{point}: money came or went");
    for view in ["all_moves", "balances"] {
        let served = sql(assembly, &format!("SELECT * FROM {view}")).unwrap();
        let stored = sql(assembly, &format!("SELECT * FROM delta('lake/{view}')")).unwrap();
        assert_eq!(sorted(&served), sorted(&stored), "{point}: {view} and its table");
    }
    let broken =
        sql(assembly, "SELECT COUNT(*) AS n FROM \"moves.dlq\"").map_or(0, |rows| rows[0]["n"].as_u64().unwrap());
    let dead = get(assembly, "/v1/status")["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|node| node["id"] == "moves")
        .unwrap()["dead"]
        .as_u64()
        .unwrap();
    assert_eq!(broken, dead, "{point}: dead letters were lost or doubled");
}

/// Crashes at the `nth` time each point is passed, and starts again.
async fn crash_everywhere(nth: u64) {
    let mut reached: BTreeMap<CrashPoint, u64> = BTreeMap::new();
    for (number, point) in CrashPoint::ALL.iter().enumerate() {
        let start = std::time::Instant::now();
        let folder = tempfile::tempdir().unwrap();
        write_project(folder.path(), PROJECT);
        let world = World::new(number as u64 * 10 + nth);
        world.disk.arm(*point, nth);
        tick(&world);
        let mut acknowledged = 0;
        if let Ok(assembly) = run(&world, folder.path()).await {
            acknowledged = produce_until_crash(&assembly, &world, 0, 16).await;
            // A clean stop walks the last points.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(10), assembly.stop()).await;
        }
        for (point, hits) in world.disk.hits() {
            *reached.entry(point).or_default() += hits;
        }
        let name = format!("{} #{nth}", point.name());
        let crashed = world.disk.is_crashed();
        if !crashed {
            world.disk.crash_now();
        }
        let next = if number % 2 == 0 { world.reboot_strict() } else { world.reboot() };
        tick(&next);
        let again = run(&next, folder.path()).await.unwrap_or_else(|problem| panic!("{name}: {problem}"));
        check(&again, acknowledged, &name).await;
        acknowledged += produce_until_crash(&again, &next, 1_000, 2).await;
        check(&again, acknowledged, &format!("{name}, afterwards")).await;
        within(&name, again.stop()).await.unwrap_or_else(|problem| panic!("{name}: {problem}"));
        let took = start.elapsed();
        progress(&format!("{name}: crashed {crashed}, {acknowledged} acknowledged, right again after {took:?}"));
    }
    let never: Vec<&str> =
        CrashPoint::ALL.iter().filter(|point| !reached.contains_key(point)).map(|point| point.name()).collect();
    assert!(never.is_empty(), "points that were never reached: {never:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_changes_nothing() {
    crash_everywhere(1).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of the full run"]
async fn a_crash_at_any_point_changes_nothing_later_on() {
    crash_everywhere(3).await;
    crash_everywhere(8).await;
}
