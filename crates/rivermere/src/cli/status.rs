//! `rivermere status`: what a running process does, once or again and again.

use super::failure::{Failure, Outcome};
use super::instance::{Instance, Which};
use super::options::Options;
use super::table::Table;
use super::terminal::harmless;
use clap::{Args, ValueEnum};
use rivermere::quantities::{bytes, count, duration, rate};
use rivermere_serve::{RunState, Status};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  rivermere status                            of the project in this folder
  rivermere status flights --watch
  rivermere status --output json | jq .lag
  rivermere status --url http://127.0.0.1:8080";

/// Show what a running project does: rates, lag, epochs, tables
#[derive(Args, Debug)]
#[command(name = "status", after_help = EXAMPLES)]
pub struct StatusWord {
    /// The project's folder
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,

    #[command(flatten)]
    which: Which,

    /// How it is written; json is one line, as GET /v1/status gives it
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,

    /// Again every second, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

impl StatusWord {
    pub fn run(self, options: &Options) -> Outcome {
        let instance = Instance::find(&self.which, options, &self.folder)?;
        let is_screen = io::stdout().is_terminal();
        loop {
            let status = instance.status()?;
            let mut text = Vec::new();
            match self.output {
                Output::Json => {
                    serde_json::to_writer(&mut text, &status).map_err(io::Error::from)?;
                    text.push(b'\n');
                }
                Output::Table => write_status(&status, &mut text)?,
            }
            let mut out = io::stdout().lock();
            if self.watch && is_screen && self.output == Output::Table {
                out.write_all(b"\x1b[2J\x1b[H")?;
            }
            out.write_all(&text)?;
            out.flush()?;
            if !self.watch {
                return failed(&status);
            }
            drop(out);
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

/// A script sees by the exit code that the pipeline has stopped.
fn failed(status: &Status) -> Outcome {
    match status.state {
        RunState::Failed => {
            let reason = status.message.clone().unwrap_or_else(|| "the pipeline has stopped".to_owned());
            Err(Failure::new(reason).hint("stop the process, mend the cause and start it again: nothing is lost"))
        }
        _ => Ok(()),
    }
}

pub fn state_name(state: RunState) -> &'static str {
    match state {
        RunState::Starting => "starting",
        RunState::Running => "running",
        RunState::Stopping => "stopping",
        RunState::Failed => "failed",
    }
}

fn write_status(status: &Status, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{}: {} for {}, epoch {}, lag {}, {} of memory (rivermere {})",
        harmless(&status.name),
        state_name(status.state),
        duration(status.uptime_ms),
        count(status.epoch),
        count(status.lag),
        bytes(status.rss_bytes),
        harmless(&status.version),
    )?;
    for (what, address) in
        [("http", &status.addresses.http), ("kafka", &status.addresses.kafka), ("pg", &status.addresses.pg)]
    {
        if let Some(address) = address {
            writeln!(out, "  {what:<6}{}", harmless(address))?;
        }
    }
    if !status.nodes.is_empty() {
        let mut table = Table::new()
            .left("node")
            .left("kind")
            .right("per second")
            .right("rows")
            .right("lag")
            .right("late")
            .right("dead");
        for node in &status.nodes {
            let numbers = [rate(node.rate), count(node.rows), count(node.lag), count(node.late), count(node.dead)];
            table.row([node.label.clone(), node.kind.as_str().to_owned()].into_iter().chain(numbers));
        }
        writeln!(out)?;
        table.write(out)?;
    }
    if !status.sinks.is_empty() {
        let mut table = Table::new().left("stored view").left("format").right("epoch").right("behind").left("location");
        for sink in &status.sinks {
            let behind = sink.staged_epoch.saturating_sub(sink.confirmed_epoch);
            let epochs = [count(sink.confirmed_epoch), count(behind)];
            let names = [sink.view.clone(), sink.format.clone()];
            table.row(names.into_iter().chain(epochs).chain([sink.location.clone()]));
        }
        writeln!(out)?;
        table.write(out)?;
    }
    if !status.watermarks.is_empty() {
        let mut table = Table::new().left("table").left("column").left("watermark");
        for watermark in &status.watermarks {
            let text = watermark.watermark.clone().unwrap_or_else(|| "-".to_owned());
            table.row([watermark.table.clone(), watermark.column.clone(), text]);
        }
        writeln!(out)?;
        table.write(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivermere_serve::{Addresses, NodeKind, NodeStatus, SinkStatus, WatermarkStatus};

    #[test]
    fn a_status_is_one_line_and_three_tables() {
        let node = |id: &str, kind| NodeStatus {
            id: id.into(),
            kind,
            label: id.into(),
            rate: 1234.6,
            rows: 27_004,
            lag: 0,
            late: 3,
            dead: 0,
            detail: String::new(),
        };
        let status = Status {
            name: "flights".into(),
            state: RunState::Running,
            message: None,
            version: "0.1.0".into(),
            uptime_ms: 61_000,
            generation: 1,
            epoch: 12,
            step: 3456,
            lag: 0,
            rss_bytes: 96_000_000,
            addresses: Addresses { http: Some("http://127.0.0.1:8080".into()), kafka: None, pg: None },
            nodes: vec![node("departures", NodeKind::Topic), node("delays", NodeKind::View)],
            edges: vec![],
            sinks: vec![SinkStatus {
                id: "1".into(),
                view: "delays".into(),
                format: "delta".into(),
                staged_epoch: 12,
                confirmed_epoch: 11,
                location: "lake/delays".into(),
            }],
            watermarks: vec![WatermarkStatus { table: "departures".into(), column: "at".into(), watermark: None }],
        };
        let mut text = Vec::new();
        write_status(&status, &mut text).unwrap();
        let expected = "\
flights: running for 1 min 1 s, epoch 12, lag 0, 96 MB of memory (rivermere 0.1.0)
  http  http://127.0.0.1:8080

 node       | kind  | per second |   rows | lag | late | dead
------------+-------+------------+--------+-----+------+------
 departures | topic |      1,235 | 27,004 |   0 |    3 |    0
 delays     | view  |      1,235 | 27,004 |   0 |    3 |    0

 stored view | format | epoch | behind | location
-------------+--------+-------+--------+-------------
 delays      | delta  |    11 |      1 | lake/delays

 table      | column | watermark
------------+--------+-----------
 departures | at     | -
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
