//! Finding the running process, and talking HTTP to it.
//!
//! `--url` and `RIVERMERE_URL` name it; else it is the one that has written `instance.json` into the data folder.

use super::failure::Failure;
use super::options::Options;
use clap::Args;
use rivermere::InstanceFile;
use rivermere_serve::Status;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::Response;
use ureq::{Agent, Body};

/// The largest `instance.json` that is read.
const MAX_INSTANCE_BYTES: u64 = 64 * 1024;
/// The largest JSON answer that is held in memory.
const MAX_ANSWER_BYTES: u64 = 256 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const GET_TIMEOUT: Duration = Duration::from_secs(5);

/// Which process is meant.
#[derive(Args, Debug)]
pub struct Which {
    /// The running process [default: the one that has the data folder]
    #[arg(long, value_name = "URL", env = "RIVERMERE_URL", hide_env_values = true)]
    pub url: Option<String>,
}

/// A process that can be asked.
#[derive(Debug)]
pub struct Instance {
    url: String,
    agent: Agent,
}

/// Reads `instance.json`; `None` when nothing runs on the folder.
pub fn read_instance(data: &Path) -> Result<Option<InstanceFile>, Failure> {
    let path = data.join("instance.json");
    let mut text = String::new();
    match std::fs::File::open(&path).and_then(|file| file.take(MAX_INSTANCE_BYTES).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(Failure::new(format!("RM-7102: {} could not be read: {error}", path.display()))),
    }
    let file: InstanceFile = serde_json::from_str(&text).map_err(|error| {
        Failure::new(format!("RM-7102: {} is not what a running process writes: {error}", path.display()))
            .hint("stop that process and remove the file")
    })?;
    // A process that was killed leaves its file behind.
    Ok(is_alive(file.pid).then_some(file))
}

fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // A process of somebody else is alive too: only "no such process" says no.
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// The process on the data folder of the project in `folder`, or what to do to have one.
pub fn running(options: &Options, folder: &Path) -> Result<InstanceFile, Failure> {
    let data = options.data_folder(folder)?;
    read_instance(&data)?.ok_or_else(|| nothing_runs(folder, &data))
}

fn nothing_runs(folder: &Path, data: &PathBuf) -> Failure {
    let start = match folder.to_str() {
        Some(".") | Some("") => "rivermere run".to_owned(),
        _ => format!("rivermere run {}", folder.display()),
    };
    Failure::new(format!("RM-7103: nothing is running on {}", data.display()))
        .hint(format!("start it with `{start}`, or name a running process with --url http://127.0.0.1:8080"))
}

impl Instance {
    /// The process that `which` and the data folder say.
    pub fn find(which: &Which, options: &Options, folder: &Path) -> Result<Self, Failure> {
        match &which.url {
            Some(url) => Self::at(url),
            None => {
                let addresses = running(options, folder)?.addresses;
                let off = || Failure::new("RM-7103: the running process has no HTTP listener");
                Self::at(&addresses.http.ok_or_else(off)?)
            }
        }
    }

    /// The process at an address such as `http://127.0.0.1:8080`.
    pub fn at(url: &str) -> Result<Self, Failure> {
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let url = url.trim_end_matches('/').to_owned();
        let host = url.strip_prefix("http://").filter(|host| !host.is_empty() && !host.contains(['/', '?', '#']));
        if host.is_none() {
            return Err(Failure::new(format!("RM-7104: '{url}' is no address of a running process"))
                .hint("it looks like http://127.0.0.1:8080")
                .usage());
        }
        // A proxy is for other machines.
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .build()
            .into();
        Ok(Self { url, agent })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// `GET path` as JSON. These answers come from memory, so one that takes long does not come.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = self.agent.get(format!("{}{path}", self.url)).config().timeout_global(Some(GET_TIMEOUT)).build();
        self.json(request.call().map_err(|error| self.unreachable(&error))?)
    }

    pub fn status(&self) -> Result<Status, Failure> {
        self.get("/v1/status")
    }

    /// One statement; the body of the answer, in the media type asked for.
    pub fn sql(&self, statement: &str, accept: &str) -> Result<Body, Failure> {
        let request = self.agent.post(format!("{}/v1/sql", self.url)).header("accept", accept);
        let request = request.content_type("application/json");
        let body = serde_json::json!({ "sql": statement }).to_string();
        let answer = request.send(body).map_err(|error| self.unreachable(&error))?;
        Ok(self.accepted(answer)?.into_body())
    }

    fn json<T: DeserializeOwned>(&self, answer: Response<Body>) -> Result<T, Failure> {
        let mut answer = self.accepted(answer)?;
        answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_json().map_err(|error| self.not_ours(&error))
    }

    fn accepted(&self, mut answer: Response<Body>) -> Result<Response<Body>, Failure> {
        if answer.status().is_success() {
            return Ok(answer);
        }
        #[derive(Deserialize)]
        struct Refusal {
            error: Reason,
        }
        #[derive(Deserialize)]
        struct Reason {
            code: String,
            message: String,
            hint: Option<String>,
        }
        let refusal: Refusal = answer.body_mut().read_json().map_err(|error| self.not_ours(&error))?;
        let failure = Failure::new(format!("{}: {}", refusal.error.code, refusal.error.message));
        Err(match refusal.error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        })
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let reason = match error {
            ureq::Error::Io(error) => match error.kind() {
                std::io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
                _ => error.to_string(),
            },
            error => error.to_string(),
        };
        Failure::new(format!("RM-7105: {} did not answer: {reason}", self.url))
            .hint("is it running? `rivermere run` prints its addresses")
    }

    fn not_ours(&self, error: &ureq::Error) -> Failure {
        Failure::new(format!("RM-7106: {} gave an answer that Rivermere would not give: {error}", self.url))
            .hint("does another program listen there?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_those_of_a_process() {
        for (text, url) in [("http://127.0.0.1:8080/", "http://127.0.0.1:8080"), ("localhost:1", "http://localhost:1")]
        {
            assert_eq!(Instance::at(text).unwrap().url(), url);
        }
        for text in ["", "http://", "https://127.0.0.1", "http://127.0.0.1/v1", "postgresql://127.0.0.1"] {
            assert!(Instance::at(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_file_of_a_process_that_is_gone_is_no_instance() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read_instance(folder.path()).unwrap().is_none());
        let path = folder.path().join("instance.json");
        // The largest process id that Linux gives is 4194304.
        std::fs::write(&path, r#"{"pid": 2000000000, "name": "x", "addresses": {}}"#).unwrap();
        assert!(read_instance(folder.path()).unwrap().is_none());
        let ours = format!(r#"{{"pid": {}, "name": "x", "addresses": {{"kafka": "a:1"}}}}"#, std::process::id());
        std::fs::write(&path, ours).unwrap();
        assert_eq!(read_instance(folder.path()).unwrap().unwrap().addresses.kafka.as_deref(), Some("a:1"));
        std::fs::write(&path, "{").unwrap();
        assert!(read_instance(folder.path()).is_err());
    }
}
