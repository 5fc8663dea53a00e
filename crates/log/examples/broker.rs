//! A broker and nothing else: `cargo run --release -p rivermere-log --example broker -- FOLDER PORT`.
//!
//! For measuring, and for trying clients. Stops cleanly on ctrl-c.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rivermere_base::{Doors, SeededRng, SystemClock};
use rivermere_log::kafka::{KafkaOptions, KafkaServer};
use rivermere_log::{Log, LogOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(dir), Some(port)) = (args.next(), args.next()) else {
        return Err("usage: broker FOLDER PORT".into());
    };
    let doors = Doors {
        clock: Arc::new(SystemClock::new()),
        rng: Arc::new(SeededRng::from_os()),
        disk: Arc::new(rivermere_store::LocalDisk::new()),
    };
    let log = Log::open(doors, &PathBuf::from(dir), LogOptions::default())?;
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?));
    let server = KafkaServer::bind(log.clone(), addr, KafkaOptions::default()).await?;
    println!("listening on {}", server.local_addr()?);
    server
        .serve(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await;
    println!("{:?}", log.metrics());
    log.close()?;
    Ok(())
}
