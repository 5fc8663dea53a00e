//! The whole demo in this process: the year, then the same folder again.

use super::*;
use rivermere_base::{SeededRng, SystemClock};
use rivermere_table::Adopt;
use std::net::Ipv4Addr;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Keeps what was said, and passes it on as it is said.
struct Listener {
    said: Vec<String>,
    moved: usize,
    lines: UnboundedSender<String>,
}

impl Listener {
    fn new() -> (Self, UnboundedReceiver<String>) {
        let (lines, receiver) = unbounded_channel();
        (Self { said: vec![], moved: 0, lines }, receiver)
    }
}

impl Voice for Listener {
    fn say(&mut self, line: &str) {
        self.said.push(line.to_owned());
        let _ = self.lines.send(line.to_owned());
    }

    fn status(&mut self, line: &str) {
        self.moved += usize::from(!line.is_empty());
    }
}

fn doors() -> Doors {
    Doors {
        clock: Arc::new(SystemClock::new()),
        rng: Arc::new(SeededRng::new(7)),
        disk: Arc::new(rivermere_store::LocalDisk::new()),
    }
}

fn options(folder: &Path, once: bool) -> DemoOptions {
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let settle = move |project: &Project| {
        let data = project.folder.join("data");
        Ok(Settings { data, http: free, kafka: free, pg: free, adopt: Adopt::Refuse })
    };
    let (folder, program) = (Some(folder.to_path_buf()), "rivermere".into());
    DemoOptions { folder, speed: Speed::Max, settle: Box::new(settle), once, program }
}

/// The answer of the running demo to the statement that it shows.
fn ask(http: &str) -> serde_json::Value {
    let answer = ureq::post(format!("{http}/v1/sql")).send_json(serde_json::json!({ "sql": QUESTION }));
    answer.unwrap().body_mut().read_json().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_year_goes_by_once_and_is_served_again() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("flights");
    let (mut listener, _lines) = Listener::new();
    run(doors(), options(&folder, true), &mut listener, std::future::pending()).await.unwrap();
    assert!(listener.said.iter().any(|line| line.contains("690,954 records are in every view and table")));
    assert!(listener.moved > 0);

    // The same folder again: everything is there, nothing is added, and the command that is shown has its answer.
    let (mut listener, mut lines) = Listener::new();
    let (answered, answer) = tokio::sync::oneshot::channel();
    let stop = async move {
        let mut http = String::new();
        while let Some(line) = lines.recv().await {
            if let Some(address) = line.trim().strip_prefix("dashboard") {
                http = address.trim().to_owned();
            }
            if line.contains("The year is over: 690,954") {
                break;
            }
        }
        let _ = answered.send(tokio::task::spawn_blocking(move || ask(&http)).await.unwrap());
    };
    run(doors(), options(&folder, false), &mut listener, stop).await.unwrap();
    let answer = answer.await.unwrap();
    let rows = answer.as_array().unwrap();
    assert_eq!(rows.len(), 15, "five carriers of three airports");
    let first = &rows[0];
    assert_eq!((&first["origin"], &first["rank"]), (&"EWR".into(), &1.into()));
    assert_eq!((&first["departures"], &first["on_time_percent"]), (&4_330.into(), &88.5.into()));
    let shown = listener.said.iter().find(|line| line.starts_with("rivermere sql")).unwrap();
    assert!(shown.ends_with(&format!("-c \"{QUESTION}\"")), "{shown}");
    assert!(listener.said.last().unwrap().starts_with("Stopped; all of it is kept."), "{:?}", listener.said);
}
