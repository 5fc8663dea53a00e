//! `GET /metrics`: the pipeline's state and this room's counters as Prometheus text (exposition format 0.0.4).

use crate::endpoint::Shared;
use crate::{RunState, Status};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What this room counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Answers by route and status. Routes are few: they come from the router, not from the request.
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    pub records_appended: AtomicU64,
    pub rows_sent: AtomicU64,
    pub streams_open: AtomicU64,
    pub events_sent: AtomicU64,
    pub resets_sent: AtomicU64,
    pub postgres_connections: AtomicU64,
    pub postgres_statements: AtomicU64,
    pub postgres_errors: AtomicU64,
}

impl Counters {
    pub(crate) fn answered(&self, route: &str, status: u16) {
        let mut requests = self.requests.lock();
        *requests.entry((route.to_owned(), status)).or_default() += 1;
    }
}

/// Adds one to a gauge for as long as it lives.
pub(crate) struct Open {
    shared: Arc<Shared>,
    gauge: fn(&Counters) -> &AtomicU64,
}

impl Open {
    pub(crate) fn new(shared: Arc<Shared>, gauge: fn(&Counters) -> &AtomicU64) -> Self {
        gauge(&shared.counters).fetch_add(1, Relaxed);
        Self { shared, gauge }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        (self.gauge)(&self.shared.counters).fetch_sub(1, Relaxed);
    }
}

/// The whole page.
pub(crate) fn page(status: &Status, counters: &Counters, statements_running: usize) -> String {
    let mut page = Page(String::with_capacity(4096));
    page.one("rivermere_up", "gauge", "Whether the pipeline runs.", u64::from(status.state == RunState::Running));
    page.head("rivermere_build_info", "gauge", "The version that runs.");
    page.row("rivermere_build_info", &[("version", &status.version), ("project", &status.name)], 1);
    page.one("rivermere_process_uptime_milliseconds", "gauge", "Time since the start.", status.uptime_ms);
    page.one("rivermere_process_resident_memory_bytes", "gauge", "Resident memory.", status.rss_bytes);
    page.one("rivermere_stream_generation", "gauge", "Starts of this pipeline so far.", status.generation);
    page.one("rivermere_stream_epoch", "gauge", "The last epoch decided by a manifest.", status.epoch);
    page.one("rivermere_stream_step", "gauge", "Steps since the start.", status.step);
    page.one("rivermere_stream_lag_records", "gauge", "Records in topics and not yet in views.", status.lag);
    nodes(&mut page, status);
    sinks(&mut page, status);
    serving(&mut page, counters, statements_running);
    page.0
}

fn nodes(page: &mut Page, status: &Status) {
    type Field = (&'static str, &'static str, fn(&crate::NodeStatus) -> f64);
    let fields: [Field; 5] = [
        ("rivermere_stream_node_rate_per_second", "Records or changes per second.", |node| node.rate),
        ("rivermere_stream_node_rows", "Rows or records held.", |node| node.rows as f64),
        ("rivermere_stream_node_lag_records", "Records not yet read.", |node| node.lag as f64),
        ("rivermere_stream_node_late_rows", "Rows that came after their window was closed.", |node| node.late as f64),
        ("rivermere_stream_node_dead_records", "Records in the dead-letter topic.", |node| node.dead as f64),
    ];
    for (name, help, value) in fields {
        page.head(name, "gauge", help);
        for node in &status.nodes {
            page.row(name, &[("node", &node.id), ("kind", node.kind.as_str())], value(node));
        }
    }
}

fn sinks(page: &mut Page, status: &Status) {
    type Field = (&'static str, &'static str, fn(&crate::SinkStatus) -> u64);
    let fields: [Field; 2] = [
        ("rivermere_table_staged_epoch", "The last epoch whose rows are staged.", |sink| sink.staged_epoch),
        ("rivermere_table_confirmed_epoch", "The last epoch found in the table.", |sink| sink.confirmed_epoch),
    ];
    for (name, help, value) in fields {
        page.head(name, "gauge", help);
        for sink in &status.sinks {
            page.row(name, &[("sink", &sink.id), ("view", &sink.view), ("format", &sink.format)], value(sink));
        }
    }
}

fn serving(page: &mut Page, counters: &Counters, statements_running: usize) {
    let name = "rivermere_serve_http_responses_total";
    page.head(name, "counter", "Answers by route and status.");
    for ((route, status), count) in counters.requests.lock().iter() {
        page.row(name, &[("route", route), ("status", &status.to_string())], *count);
    }
    page.one("rivermere_serve_statements_running", "gauge", "Statements that run now.", statements_running as u64);
    type Field = (&'static str, &'static str, &'static str, fn(&Counters) -> &AtomicU64);
    let fields: [Field; 8] = [
        ("rivermere_serve_appended_records_total", "counter", "Records taken over HTTP.", |c| &c.records_appended),
        ("rivermere_serve_sent_rows_total", "counter", "Rows sent in answers.", |c| &c.rows_sent),
        ("rivermere_serve_event_streams", "gauge", "Open event streams.", |c| &c.streams_open),
        ("rivermere_serve_sent_events_total", "counter", "Events of changes sent.", |c| &c.events_sent),
        ("rivermere_serve_sent_resets_total", "counter", "Whole views sent to event streams.", |c| &c.resets_sent),
        ("rivermere_serve_postgres_connections", "gauge", "Open Postgres connections.", |c| &c.postgres_connections),
        ("rivermere_serve_postgres_statements_total", "counter", "Statements of Postgres clients.", |c| {
            &c.postgres_statements
        }),
        ("rivermere_serve_postgres_errors_total", "counter", "Errors told to Postgres clients.", |c| {
            &c.postgres_errors
        }),
    ];
    for (name, kind, help, value) in fields {
        page.one(name, kind, help, value(counters).load(Relaxed));
    }
}

struct Page(String);

// Writing to a String does not fail.
impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn row(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.0, "{name}{{");
        for (index, (label, text)) in labels.iter().enumerate() {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{escaped}\"", if index == 0 { "" } else { "," });
        }
        let _ = writeln!(self.0, "}} {value}");
    }
}
