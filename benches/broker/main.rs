//! Our broker beside Apache Kafka: `cargo xtask bench broker [-- --rounds 3 --records 300000]`.
//!
//! `broker.py` drives both with one client; this program is our side (`serve FOLDER PORT`) and starts the script. It
//! needs the Python of `cargo xtask test --prepare` (`RIVERMERE_PYTHON`), which `cargo xtask bench` sees to.

use rivermere_base::{Doors, SeededRng, SystemClock};
use rivermere_log::kafka::{KafkaOptions, KafkaServer};
use rivermere_log::{Log, LogOptions};
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", folder, port] => serve(Path::new(folder), port.parse()?).map(|()| ExitCode::SUCCESS),
        ["serve", ..] => Err("usage: broker serve FOLDER PORT".into()),
        // Cargo itself passes `--bench`.
        _ => compare(arguments.iter().filter(|argument| *argument != "--bench")),
    }
}

/// A broker and nothing else, until Ctrl-C.
#[tokio::main]
async fn serve(folder: &Path, port: u16) -> Result<(), Box<dyn Error>> {
    let doors = Doors {
        clock: Arc::new(SystemClock::new()),
        rng: Arc::new(SeededRng::from_os()),
        disk: Arc::new(rivermere_store::LocalDisk::new()),
    };
    let log = Log::open(doors, folder, LogOptions::default())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let server = KafkaServer::bind(log.clone(), address, KafkaOptions::default()).await?;
    println!("listening on {}", server.local_addr()?);
    let interrupted = async {
        // Without signals the process is killed from outside; either way it ends.
        let _ = tokio::signal::ctrl_c().await;
    };
    server.serve(interrupted).await;
    println!("{:?}", log.metrics());
    Ok(log.close()?)
}

fn compare<'a>(arguments: impl Iterator<Item = &'a String>) -> Result<ExitCode, Box<dyn Error>> {
    let python =
        std::env::var("RIVERMERE_PYTHON").map_err(|_| "RIVERMERE_PYTHON is not set: cargo xtask bench broker")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("broker/broker.py");
    let status = Command::new(&python).arg(script).arg(std::env::current_exe()?).args(arguments).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
