//! When nothing runs on a project: the same platform, started for these statements and stopped after them.
//!
//! It listens on free ports of this machine and is asked over HTTP like any other, so that a statement means the same
//! either way. What it reads and keeps is the project's own data folder.

use super::super::failure::{Failure, Outcome};
use super::super::instance::Instance;
use super::super::options::Options;
use super::super::run::doors;
use super::super::terminal;
use rivermere::{Assembly, Project};
use rivermere_serve::RunState;
use rivermere_table::Adopt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How often it is looked whether views have caught up with their topics.
const LOOK: Duration = Duration::from_millis(20);

pub struct Embedded {
    runtime: Runtime,
    assembly: Assembly,
}

impl Embedded {
    /// Starts the project in `folder` and waits until its views hold all that is in its topics.
    pub fn start(options: &Options, folder: &Path) -> Result<Self, Failure> {
        let project = Project::load(folder)?;
        let free = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let options = Options { data: options.data.clone(), http: free, kafka: free, pg: free };
        let settings = options.settings(&project, Adopt::Refuse)?;
        terminal::tell(&terminal::dim(format!("nothing runs on {}: started for this", settings.data.display())));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let assembly = runtime.block_on(async {
            let assembly = Assembly::start(doors(), project, settings).await?;
            loop {
                let status = assembly.status();
                match status.state {
                    RunState::Running if status.lag == 0 => return Ok::<_, Failure>(assembly),
                    RunState::Failed => return Err(assembly.failed().await.into()),
                    _ => tokio::time::sleep(LOOK).await,
                }
            }
        })?;
        Ok(Self { runtime, assembly })
    }

    pub fn instance(&self) -> Result<Instance, Failure> {
        Instance::at(&self.assembly.addresses().http.unwrap_or_default())
    }

    /// Commits what the statements changed. An error of theirs comes before one of the end.
    pub fn stop(self, done: Outcome) -> Outcome {
        let stopped = self.runtime.block_on(self.assembly.stop());
        self.runtime.shutdown_background();
        done.and(stopped.map_err(Failure::from))
    }
}
