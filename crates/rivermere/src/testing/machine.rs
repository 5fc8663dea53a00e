//! A platform on a simulated machine that crashes and comes back.
//!
//! It is the ordinary [`Assembly`]; simulated are its clock, its disk and its randomness. Time stands still unless it is
//! told to go on, so that nothing is sealed and no table is written before a test says so, and each run is like the
//! other. After a crash nothing is left but what was synced; then the platform starts again, and whatever was being done
//! is done again, as a client would. Records are sent as an idempotent producer sends them: what was kept and not
//! acknowledged is not kept twice.

use super::project_files::DiskWithFiles;
use crate::{Assembly, Problem, Project, Settings};
use rivermere_base::{CrashPoint, Doors, PartitionId, TopicName};
use rivermere_log::records::{Compression, Producer, Record, encode_for};
use rivermere_serve::RunState;
use rivermere_sim::World;
use rivermere_table::Adopt;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Longest real time that anything may take. It is waited for only when something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a crashed platform is given to notice.
const CRASHED_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether something has happened.
const LOOK: Duration = Duration::from_millis(2);
/// Simulated time that goes by between two looks while the platform settles: enough for its timers.
const TICK: Duration = Duration::from_millis(250);
/// Rounds until everything that follows from something else has followed.
const ROUNDS: usize = 32;
/// Records of one batch.
const BATCH_RECORDS: usize = 1_000;
/// Any number that the log does not give to a producer by itself.
const PRODUCER: i64 = i64::MAX / 2;

/// What a machine runs.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) project: Project,
    /// Files of its tables, which are read where they are.
    pub(super) files: Arc<BTreeSet<PathBuf>>,
}

pub(super) struct Machine {
    subject: Subject,
    /// The lock of a data folder is the machine's own, also when the rest of the folder is simulated.
    data: tempfile::TempDir,
    world: World,
    assembly: Option<Assembly>,
    armed: Option<CrashPoint>,
    crashes: u32,
    passed: BTreeMap<CrashPoint, u64>,
    /// The sequence number that each partition expects next.
    sequences: BTreeMap<(TopicName, i32), i32>,
}

impl Machine {
    /// Starts the platform at a moment of simulated time.
    pub(super) async fn start(subject: Subject, wall_ms: Option<i64>) -> Result<Self, Problem> {
        let data = tempfile::Builder::new()
            .prefix("rivermere-test-")
            .tempdir()
            .map_err(|error| Problem::new(7302, format!("no temporary folder can be made: {error}")))?;
        // The seed decides ids only: nothing of a test may depend on it.
        let world = World::new(1);
        if let Some(wall_ms) = wall_ms {
            world.clock.set_ms(wall_ms);
        }
        let mut machine = Self {
            subject,
            data,
            world,
            assembly: None,
            armed: None,
            crashes: 0,
            passed: BTreeMap::new(),
            sequences: BTreeMap::new(),
        };
        machine.begin().await?;
        Ok(machine)
    }

    pub(super) fn crashes(&self) -> u32 {
        self.crashes
    }

    /// Puts the wall clock.
    pub(super) fn set_clock(&self, wall_ms: i64) {
        self.world.clock.set_ms(wall_ms);
    }

    /// Lets time go by, and all that is due with it.
    pub(super) async fn wait(&mut self, time: Duration) -> Result<(), Problem> {
        self.world.clock.advance(time);
        self.settle().await
    }

    /// Sends records and waits until they are durable.
    pub(super) async fn produce(
        &mut self,
        topic: &TopicName,
        partition: i32,
        values: impl Iterator<Item = bytes::Bytes>,
    ) -> Result<(), Problem> {
        use rivermere_base::Clock;
        let timestamp_ms = self.world.clock.now_ms();
        let mut records =
            values.map(|value| Record { value: Some(value), timestamp_ms, ..Record::default() }).peekable();
        while records.peek().is_some() {
            let batch: Vec<Record> = records.by_ref().take(BATCH_RECORDS).collect();
            let sequence = self.sequences.entry((topic.clone(), partition)).or_default();
            let producer = Producer { id: PRODUCER, epoch: 0, base_sequence: *sequence };
            *sequence = sequence.saturating_add(i32::try_from(batch.len()).unwrap_or(i32::MAX));
            let batch = encode_for(&batch, Compression::None, producer).map_err(Problem::told)?;
            self.survive(async |assembly, _| {
                let appended = assembly.log().append(topic, PartitionId(partition), batch.clone()).await;
                appended.map(|_| ()).map_err(Problem::told)
            })
            .await?;
        }
        Ok(())
    }

    /// Reads all that waits, seals it, and brings it into the tables.
    pub(super) async fn settle(&mut self) -> Result<(), Problem> {
        self.survive(settled).await
    }

    /// Asks the platform something. After a crash it is asked again.
    pub(super) async fn ask<T>(
        &mut self,
        mut question: impl AsyncFnMut(&Assembly) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        self.survive(async |assembly, _| question(assembly).await).await
    }

    /// Pulls the plug.
    pub(super) async fn crash_now(&mut self) -> Result<(), Problem> {
        self.world.disk.crash_now();
        self.come_back().await
    }

    /// Crashes at the `nth` time from now on that the point is passed.
    pub(super) fn arm(&mut self, point: CrashPoint, nth: u64) {
        self.world.disk.arm(point, nth);
        self.armed = Some(point);
    }

    /// The point of a crash that has not come yet. What is only passed when a platform stops or starts is passed first.
    pub(super) async fn outstanding_crash(&mut self) -> Result<Option<CrashPoint>, Problem> {
        if self.armed.is_some() {
            self.stop().await?;
            self.begin().await?;
        }
        Ok(self.armed)
    }

    /// How often each point has been passed so far.
    pub(super) fn passed(&self) -> BTreeMap<CrashPoint, u64> {
        let mut passed = self.passed.clone();
        for (point, hits) in self.world.disk.hits() {
            *passed.entry(point).or_default() += hits;
        }
        passed
    }

    /// Stops the platform cleanly, unless it crashes on the way.
    pub(super) async fn stop(&mut self) -> Result<(), Problem> {
        let Some(assembly) = self.assembly.take() else { return Ok(()) };
        let stopped = timeout(PATIENCE, assembly.stop()).await;
        if self.world.disk.is_crashed() {
            return self.come_back().await;
        }
        stopped.unwrap_or_else(|_| Err(too_slow("to stop")))
    }

    /// Starts the platform, again and again while it crashes.
    async fn begin(&mut self) -> Result<(), Problem> {
        while self.assembly.is_none() {
            let any = "127.0.0.1:0".parse().map_err(|error| Problem::new(7302, format!("{error}")))?;
            let settings =
                Settings { data: self.data.path().to_path_buf(), http: any, kafka: any, pg: any, adopt: Adopt::Refuse };
            let disk = DiskWithFiles::new(self.world.disk.clone(), self.subject.files.clone());
            let doors = Doors { disk: Arc::new(disk), ..self.world.doors() };
            let started = Assembly::start(doors, self.subject.project.clone(), settings);
            let started = timeout(PATIENCE, started).await.unwrap_or_else(|_| Err(too_slow("to start")));
            if self.world.disk.is_crashed() {
                self.assembly = started.ok();
                self.lose_power().await;
            } else {
                self.assembly = Some(started?);
            }
        }
        Ok(())
    }

    async fn come_back(&mut self) -> Result<(), Problem> {
        self.lose_power().await;
        self.begin().await
    }

    /// Lets go of a crashed platform, and of everything that was not synced.
    async fn lose_power(&mut self) {
        if let Some(assembly) = self.assembly.take() {
            // What it says about the disk that it lost is no news.
            let _ = timeout(PATIENCE, assembly.stop()).await;
        }
        self.passed = self.passed();
        self.world = self.world.reboot_strict();
        self.armed = None;
        self.crashes += 1;
    }

    /// Does something, and once more after each crash on the way.
    async fn survive<T>(
        &mut self,
        mut work: impl AsyncFnMut(&Assembly, &World) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        loop {
            self.begin().await?;
            let done = match &self.assembly {
                Some(assembly) => {
                    let crashed = async {
                        while !self.world.disk.is_crashed() {
                            sleep(LOOK).await;
                        }
                        sleep(CRASHED_PATIENCE).await;
                    };
                    tokio::select! {
                        done = timeout(PATIENCE, work(assembly, &self.world)) => done.unwrap_or_else(|_| Err(too_slow("to settle"))),
                        () = crashed => Err(too_slow("to notice its crash")),
                    }
                }
                None => continue,
            };
            if !self.world.disk.is_crashed() {
                return done;
            }
            self.come_back().await?;
        }
    }
}

fn too_slow(what: &str) -> Problem {
    Problem::new(7303, format!("the platform took more than {} s {what}", PATIENCE.as_secs()))
        .hint("RIVERMERE_LOG=info shows what it is doing")
}

async fn settled(assembly: &Assembly, world: &World) -> Result<(), Problem> {
    use rivermere_base::Clock;
    for _ in 0..ROUNDS {
        let before = ends(assembly);
        assembly.flush().await?;
        // Settling takes no time of the wall clock, which the test has put where it is.
        let wall_ms = world.clock.now_ms();
        while !assembly.is_settled() {
            let status = assembly.status();
            if let (RunState::Failed, Some(message)) = (status.state, status.message) {
                return Err(Problem::told(message));
            }
            world.clock.advance(TICK);
            sleep(LOOK).await;
        }
        world.clock.set_ms(wall_ms);
        // Dead letters are records, too, and a table may read them.
        if ends(assembly) == before {
            return Ok(());
        }
    }
    Err(Problem::new(7303, format!("topics were still growing after {ROUNDS} rounds: does one feed itself?")))
}

/// The ends of all topics.
fn ends(assembly: &Assembly) -> Vec<(TopicName, i64)> {
    let log = assembly.log();
    let end = |topic: rivermere_log::TopicInfo| {
        let ends = (0..topic.partitions).filter_map(|partition| log.offsets(&topic.name, PartitionId(partition)).ok());
        let sum = ends.map(|range| range.high_watermark.0).sum();
        (topic.name, sum)
    };
    log.topics().into_iter().map(end).collect()
}
