//! Ctrl-C, SIGTERM and a terminal that goes away: the first asks for a clean end, the second ends at once.

use super::terminal;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of a process that a signal has ended: 128 and SIGINT's number.
const INTERRUPTED: i32 = 130;

pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches the signals from now on. Needs a runtime.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Ends the process at the next signal, for a clean end that takes too long for somebody. It is as good as a crash: the
/// next start recovers.
pub fn exit_on_next(mut signals: Signals) {
    tokio::spawn(async move {
        signals.next().await;
        terminal::tell("ended at once; the next start recovers");
        std::process::exit(INTERRUPTED);
    });
}
