//! The demo: a year of real flights replayed through the whole platform.
//!
//! [`run`] is `init flights` ([`template`]) and an ordinary [`Assembly`] over that folder, with a producer beside it
//! ([`replay`]) that speaks Kafka's protocol to the listener like any other client. Nothing in the platform knows that it
//! is a demo: kill it at any moment and start it again, and it goes on where the topics end.
//!
//! What it has to say goes through a [`Voice`], so that it knows no terminal.

pub mod replay;
mod report;
pub mod template;
mod timeline;

pub use timeline::{Sequence, TimelineError};

use crate::{Assembly, Problem, Project, Settings};
use replay::{Progress, ReplayError, Replayer, Speed};
use report::{Meter, Sample};
use rivermere_base::{Clock, Doors};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use template::{Template, Written};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// Where the demo's project is written when nothing else is said.
pub const DEFAULT_FOLDER: &str = "flights-demo";

/// A statement that always has an answer.
const QUESTION: &str = "SELECT origin, rank, carrier_name, departures, round(on_time_percent, 1) AS on_time_percent \
                        FROM on_time_ranking ORDER BY origin, rank";

/// How often the moving line moves, and whether the year is over is looked at.
const STATUS_INTERVAL: Duration = Duration::from_millis(250);
/// Time from the listeners to the first rates, so that there are some.
const FIRST_RATES: Duration = Duration::from_millis(1_500);

/// Settles listeners and the data folder once the project is there: flags, environment, `rivermere.toml`, defaults.
pub type Settle = Box<dyn FnOnce(&Project) -> Result<Settings, Problem> + Send>;

/// What `rivermere demo` was asked for.
pub struct DemoOptions {
    /// The project's folder: written when it is missing or empty, continued when the demo is there already.
    /// [`DEFAULT_FOLDER`] when left out.
    pub folder: Option<PathBuf>,
    /// How fast the year goes by.
    pub speed: Speed,
    pub settle: Settle,
    /// End when the whole year is in every view and table, with time, rates and memory; else it is served until `stop`.
    pub once: bool,
    /// How a person would call this program, for the command that is shown: `rivermere`, or `cargo run --`.
    pub program: String,
}

/// Where the demo says what it does.
pub trait Voice: Send {
    /// A line that stays.
    fn say(&mut self, line: &str);
    /// The line that moves: it takes the place of the one before. An empty one takes it away.
    fn status(&mut self, line: &str);
}

/// Runs the demo until `stop` resolves, or until the year is over when it is to run `once`.
///
/// # Errors
/// When the folder holds something else, a listener's address is taken, or the platform fails on the way.
pub async fn run(
    doors: Doors,
    options: DemoOptions,
    voice: &mut dyn Voice,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), Problem> {
    let mut stop = pin!(stop);
    let began = doors.clock.monotonic();
    let folder = options.folder.unwrap_or_else(|| DEFAULT_FOLDER.into());
    let written = write_project(&doors, &folder).await?;
    let project = Project::load(&folder)?;
    let settings = (options.settle)(&project)?;
    let stage = Stage {
        clock: doors.clock.clone(),
        began,
        folder,
        data: settings.data.clone(),
        speed: options.speed,
        once: options.once,
        program: options.program,
    };
    voice.say(&stage.title(&written));
    let assembly = tokio::select! {
        assembly = Assembly::start(doors, project, settings) => assembly?,
        () = &mut stop => return Ok(()),
    };
    let played = stage.play(&assembly, voice, stop).await;
    voice.status("");
    // What was read is sealed and committed also when something went wrong.
    let stopped = assembly.stop().await;
    match played? {
        Ending::Stopped => voice.say(&stage.goodbye()),
        Ending::Finished(sample) => sample.summary().iter().for_each(|line| voice.say(line)),
    }
    stopped
}

async fn write_project(doors: &Doors, folder: &Path) -> Result<Written, Problem> {
    let (disk, folder) = (doors.disk.clone(), folder.to_path_buf());
    let written = tokio::task::spawn_blocking(move || template::init(disk.as_ref(), &folder, Template::Flights));
    written.await.map_err(|error| Problem::new(7214, format!("a task ended early: {error}")))?.map_err(Problem::told)
}

/// How it ended.
enum Ending {
    Stopped,
    Finished(Sample),
}

/// What does not change while the demo runs.
struct Stage {
    clock: Arc<dyn Clock>,
    /// On the clock that never goes back.
    began: Duration,
    folder: PathBuf,
    data: PathBuf,
    speed: Speed,
    once: bool,
    program: String,
}

impl Stage {
    async fn play(
        &self,
        assembly: &Assembly,
        voice: &mut dyn Voice,
        mut stop: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<Ending, Problem> {
        let mut progress;
        // Aborted when dropped.
        let mut replay = JoinSet::new();
        {
            let replayer = Replayer::new(self.clock.clone(), kafka_address(assembly)?, self.speed);
            progress = replayer.progress();
            replay.spawn(replayer.run());
        }
        let mut meter = Meter::new(self.clock.clone());
        let mut ticks = interval(STATUS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let listening = self.clock.monotonic();
        let (mut introduced, mut told_that_it_is_over) = (false, false);
        loop {
            tokio::select! {
                () = &mut stop => return Ok(Ending::Stopped),
                problem = assembly.failed() => return Err(problem),
                Some(ended) = replay.join_next() => replay_ended(ended)?,
                _ = ticks.tick() => {
                    let sample = self.sample(assembly, &mut progress, &mut meter);
                    if !introduced && self.clock.monotonic().saturating_sub(listening) >= FIRST_RATES {
                        introduced = true;
                        self.addresses(assembly, &sample).iter().for_each(|line| voice.say(line));
                        self.invitation().iter().for_each(|line| voice.say(line));
                    }
                    if sample.is_over() && sample.lag == 0 && !told_that_it_is_over {
                        if self.once {
                            return self.finish(assembly, sample).await.map(Ending::Finished);
                        }
                        told_that_it_is_over = true;
                        if !std::mem::replace(&mut introduced, true) {
                            self.addresses(assembly, &sample).iter().for_each(|line| voice.say(line));
                        }
                        voice.say(&format!("The year is over: {} records are in every view.", sample.records()));
                        voice.say("All of it is served until Ctrl-C.");
                        self.invitation().iter().for_each(|line| voice.say(line));
                    }
                    voice.status(&sample.line());
                }
            }
        }
    }

    fn sample(&self, assembly: &Assembly, progress: &mut watch::Receiver<Progress>, meter: &mut Meter) -> Sample {
        // The topics' ends are read after the progress: what is told is in them.
        let progress = progress.borrow_and_update().clone();
        meter.sample(progress, &assembly.status(), self.clock.monotonic().saturating_sub(self.began))
    }

    /// Everything is read; makes the tables complete too.
    async fn finish(&self, assembly: &Assembly, mut sample: Sample) -> Result<Sample, Problem> {
        assembly.flush().await?;
        sample.elapsed = self.clock.monotonic().saturating_sub(self.began);
        sample.rss_bytes = assembly.status().rss_bytes;
        Ok(sample)
    }

    fn title(&self, written: &Written) -> String {
        let project = match written {
            Written { kept: 0, .. } => "a new project",
            _ => "goes on where it was",
        };
        format!("Flights that left New York in 2013, at {}, in {} ({project})", self.speed, self.folder.display())
    }

    fn addresses(&self, assembly: &Assembly, sample: &Sample) -> Vec<String> {
        let addresses = assembly.addresses();
        let mut lines = vec![];
        let mut address = |name: &str, address: Option<String>, about: &str| {
            if let Some(address) = address {
                lines.push(format!("  {name:<10}{address}{about}"));
            }
        };
        address("dashboard", addresses.http.clone(), "");
        address("HTTP", addresses.http.map(|http| format!("{http}/v1/views")), "");
        address("Kafka", addresses.kafka, "  (departures, arrivals, weather)");
        address("Postgres", addresses.pg, "");
        address("now", Some(sample.line()), "");
        lines
    }

    fn invitation(&self) -> [String; 2] {
        let data = report::quoted(&self.data.display().to_string());
        ["Ask it, in another terminal:".into(), format!("{} sql --data {data} -c \"{QUESTION}\"", self.program)]
    }

    fn goodbye(&self) -> String {
        let folder = if self.folder == Path::new(DEFAULT_FOLDER) {
            String::new()
        } else {
            format!(" {}", report::quoted(&self.folder.display().to_string()))
        };
        format!("Stopped; all of it is kept. Go on with: {} demo{folder}", self.program)
    }
}

fn kafka_address(assembly: &Assembly) -> Result<SocketAddr, Problem> {
    let address = assembly.addresses().kafka.and_then(|address| address.parse().ok());
    address.ok_or_else(|| Problem::new(7215, "the demo needs the Kafka listener, which is off"))
}

fn replay_ended(ended: Result<Result<(), ReplayError>, tokio::task::JoinError>) -> Result<(), Problem> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Problem::told(error)),
        Err(error) => Err(Problem::new(7214, format!("a task ended early: {error}"))),
    }
}

#[cfg(test)]
mod tests;
