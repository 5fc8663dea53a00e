//! A whole platform in this process, asked by HTTP, like a user does.

use rivermere::{Assembly, Project, Settings};
use rivermere_base::{Doors, SeededRng, SystemClock};
use rivermere_store::LocalDisk;
use rivermere_table::Adopt;
use serde_json::{Value, json};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

/// The doors of production.
pub fn doors() -> Doors {
    Doors { clock: Arc::new(SystemClock::new()), rng: Arc::new(SeededRng::from_os()), disk: Arc::new(LocalDisk::new()) }
}

pub struct Platform {
    assembly: Assembly,
    url: String,
    agent: ureq::Agent,
}

impl Platform {
    /// On free ports, with its data in `data`, and nothing in its project.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(data: &Path) -> Result<Self, Box<dyn Error>> {
        let any = "127.0.0.1:0".parse()?;
        let settings = Settings { data: data.to_path_buf(), http: any, kafka: any, pg: any, adopt: Adopt::Refuse };
        let project = Project::empty("bench", data);
        let assembly = Assembly::start(doors(), project, settings).await.map_err(|problem| problem.to_string())?;
        let url = format!("{}/v1/sql", assembly.addresses().http.ok_or("no HTTP listener")?);
        // Without a time limit: statements of benchmarks may take minutes.
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        Ok(Self { assembly, url, agent })
    }

    /// Runs statements; the rows of the last. Blocks the thread, for one whose other tasks run on others.
    ///
    /// # Errors
    /// With the server's message.
    pub fn sql(&self, text: &str) -> Result<Vec<Value>, Box<dyn Error>> {
        let body = json!({ "sql": text }).to_string();
        let mut response = self.agent.post(&self.url).content_type("application/json").send(body)?;
        let good = response.status().is_success();
        let body = response.body_mut().with_config().limit(u64::MAX).read_to_string()?;
        if !good {
            return Err(format!("{text}: {body}").into());
        }
        match serde_json::from_str(&body)? {
            Value::Array(rows) => Ok(rows),
            other => Ok(vec![other]),
        }
    }

    /// # Errors
    /// When something could not be brought to an end.
    pub async fn stop(self) -> Result<(), Box<dyn Error>> {
        Ok(self.assembly.stop().await.map_err(|problem| problem.to_string())?)
    }
}
