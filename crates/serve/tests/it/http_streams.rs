//! Server-sent events: whoever applies them all holds the view.

use crate::client::{Event, Events, get};
use crate::memory::pairs;
use crate::running::Running;
use rivermere_serve::{Dashboard, Limits, Platform};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const CHANGES: &str = "/v1/views/totals/changes";

/// A client's copy of a view: rows with how often they are there.
#[derive(Default)]
struct Copy {
    rows: BTreeMap<(String, i64), i64>,
    resets: usize,
    last_id: String,
}

impl Copy {
    fn apply(&mut self, event: &Event) {
        match event.name.as_str() {
            "reset" => {
                self.rows.clear();
                self.resets += 1;
                self.add(&event.data["rows"], 1);
            }
            "changes" => {
                self.add(&event.data["deleted"], -1);
                self.add(&event.data["inserted"], 1);
            }
            other => panic!("unexpected {other}: {}", event.data),
        }
        self.last_id = event.id.clone().unwrap();
        assert!(self.rows.values().all(|times| *times == 1), "{:?}", self.rows);
    }

    fn add(&mut self, rows: &Value, weight: i64) {
        for row in rows.as_array().unwrap() {
            let key = (row["name"].as_str().unwrap().to_owned(), row["total"].as_i64().unwrap());
            let times = self.rows.entry(key.clone()).or_default();
            *times += weight;
            if *times == 0 {
                self.rows.remove(&key);
            }
        }
    }

    fn totals(&self) -> BTreeMap<String, i64> {
        self.rows.keys().cloned().collect()
    }
}

#[test]
fn the_first_event_is_the_whole_view_and_then_come_changes() {
    let running = Running::start();
    let mut events = Events::open(running.http, CHANGES, None);
    let reset = events.next().unwrap();
    assert_eq!((reset.name.as_str(), reset.id.as_deref()), ("reset", Some("1.1.1")));
    let first = json!({"name": "a", "total": 1, "share": 0.25, "at": "1970-01-01T01:00:00"});
    assert_eq!(reset.data["rows"][0], first);
    running.memory.push("totals", &[("a", 0)]);
    let change = events.next().unwrap();
    let inserted = json!([{"name": "a", "total": 0, "share": null, "at": "1970-01-01T00:00:00"}]);
    assert_eq!(change.data, json!({"inserted": inserted, "deleted": [first], "at_ms": 1_700_000_000_000_i64}));
    assert_eq!((change.name.as_str(), change.id.as_deref()), ("changes", Some("1.1.2")));
}

#[test]
fn a_view_without_rows_resets_to_nothing() {
    let running = Running::start();
    running.memory.push("empty", &[]);
    let reset = Events::open(running.http, "/v1/views/empty/changes", None).next().unwrap();
    assert_eq!(reset.data, json!({"rows": []}));
}

#[test]
fn a_known_id_goes_on_without_a_gap_and_an_unknown_one_starts_over() {
    let running = Running::start();
    let known = running.memory.push("totals", &[("c", 3)]).to_string();
    running.memory.push("totals", &[("d", 4)]);
    running.memory.push("totals", &[("d", 5)]);
    let resumed = Events::open(running.http, CHANGES, Some(&known)).next().unwrap();
    assert_eq!((resumed.name.as_str(), resumed.id.as_deref()), ("changes", Some("1.1.4")));
    assert_eq!(resumed.data["inserted"][0]["total"], 5);
    assert_eq!(resumed.data["deleted"], json!([]), "what came and went between two events is not told");
    for unknown in ["9.9.9", "nonsense"] {
        assert_eq!(Events::open(running.http, CHANGES, Some(unknown)).next().unwrap().name, "reset", "{unknown}");
    }
    let mut after = Events::open(running.http, &format!("{CHANGES}?after=1.1.4"), None);
    running.memory.push("totals", &[("e", 6)]);
    assert_eq!(after.next().unwrap().id.as_deref(), Some("1.1.5"));
}

#[test]
fn an_answers_change_id_is_where_its_stream_goes_on() {
    let running = Running::start();
    running.memory.push("totals", &[("c", 3)]);
    let id = get(running.http, "/v1/views/totals").headers["rivermere-change-id"].clone();
    running.memory.push("totals", &[("d", 4)]);
    let event = Events::open(running.http, &format!("{CHANGES}?after={id}"), None).next().unwrap();
    assert_eq!((event.name.as_str(), &event.data["inserted"][0]["name"]), ("changes", &json!("d")));
}

/// Steps until the pushing side has written `last`, reconnecting every so many events.
fn follow(running: &Running, reconnect_after: usize) -> Copy {
    let mut copy = Copy::default();
    let mut id: Option<String> = None;
    loop {
        let mut events = Events::open(running.http, CHANGES, id.as_deref());
        for _ in 0..reconnect_after {
            copy.apply(&events.next().unwrap());
            if copy.rows.contains_key(&("last".to_owned(), 1)) {
                return copy;
            }
        }
        id = Some(copy.last_id.clone());
    }
}

#[test]
fn all_events_together_are_the_view_under_concurrent_pushes() {
    let running = Running::with(Limits { push_interval: Duration::from_millis(1), ..Limits::default() });
    std::thread::scope(|scope| {
        let steady = scope.spawn(|| follow(&running, usize::MAX));
        let restless = scope.spawn(|| follow(&running, 2));
        let memory = &running.memory;
        let pushers: Vec<_> = (0..2_usize)
            .map(|pusher| {
                scope.spawn(move || {
                    for round in 0..2000_usize {
                        let name = format!("p{pusher}-{}", round % 17);
                        let total = if round % 5 == 4 { -1 } else { round as i64 };
                        memory.push("totals", &[(&name, total), ("shared", (round * 2 + pusher) as i64)]);
                        if round % 50 == 0 {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
        memory.push("totals", &[("last", 1)]);
        let rows = memory.rows("totals");
        for copy in [steady.join().unwrap(), restless.join().unwrap()] {
            assert_eq!(copy.totals(), rows);
        }
    });
    let snapshot = running.memory.snapshot("totals").unwrap();
    assert_eq!(pairs(&snapshot.batches).into_iter().collect::<BTreeMap<_, _>>(), running.memory.rows("totals"));
}

#[test]
fn a_busy_view_is_told_in_few_events() {
    let running = Running::with(Limits { push_interval: Duration::from_secs(3600), ..Limits::default() });
    let mut events = Events::open(running.http, CHANGES, None);
    assert_eq!(events.next().unwrap().name, "reset");
    running.memory.push("totals", &[("x", 1)]);
    assert_eq!(events.next().unwrap().data["inserted"][0]["total"], 1, "the first change goes out at once");
    for total in 2..40 {
        running.memory.push("totals", &[("x", total)]);
    }
    drop(events);
    let page = get(running.http, "/metrics").text();
    assert!(page.contains("rivermere_serve_sent_events_total 1\n"), "{page}");
}

#[test]
fn a_slow_client_gets_the_whole_view_and_costs_no_memory() {
    let running = Running::with(Limits { push_interval: Duration::ZERO, ..Limits::default() });
    let mut events = Events::open(running.http, "/v1/views/many/changes", None);
    let mut copy = Copy::default();
    copy.apply(&events.next().unwrap());
    // While the client reads nothing: far more than sockets and buffers hold.
    let names: Vec<String> = (0..3000).map(|number| format!("n{number:04}")).collect();
    for round in 1..200_i64 {
        let rows: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), round)).collect();
        running.memory.push("many", &rows);
    }
    running.memory.push("many", &[("last", 1)]);
    while !copy.rows.contains_key(&("last".to_owned(), 1)) {
        copy.apply(&events.next().unwrap());
    }
    assert_eq!(copy.totals(), running.memory.rows("many"));
    assert!(copy.resets > 1, "the steps that were missed came as a whole view");
}

#[test]
fn too_many_waiting_rows_become_a_reset() {
    let running = Running::with(Limits { push_pending_rows: 10, ..Limits::default() });
    let mut events = Events::open(running.http, CHANGES, None);
    assert_eq!(events.next().unwrap().name, "reset");
    let names: Vec<String> = (0..11).map(|number| format!("x{number}")).collect();
    let rows: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    running.memory.push("totals", &rows);
    let event = events.next().unwrap();
    assert_eq!((event.name.as_str(), event.data["rows"].as_array().unwrap().len()), ("reset", 14));
}

#[test]
fn a_view_that_is_dropped_or_outgrows_the_limit_ends_its_stream_with_the_reason() {
    let running = Running::with(Limits { push_view_rows: 100, push_pending_rows: 10, ..Limits::default() });
    let mut events = Events::open(running.http, CHANGES, None);
    events.next().unwrap();
    running.memory.drop_view("totals");
    let end = events.next().unwrap();
    assert_eq!((end.name.as_str(), &end.data["error"]["code"]), ("end", &json!("RM-6002")));
    assert_eq!(events.next(), None);
    assert_eq!(get(running.http, "/v1/views/many/changes").error().0, 422);
}

#[test]
fn silence_is_filled_with_comments() {
    let running = Running::with(Limits { keep_alive: Duration::from_millis(5), ..Limits::default() });
    let mut connection = crate::client::open(running.http, "GET", CHANGES, &[], b"");
    crate::client::head(&mut connection);
    let mut seen = String::new();
    while !seen.contains(": keep-alive") {
        assert_ne!(std::io::BufRead::read_line(&mut connection, &mut seen).unwrap(), 0);
    }
}

#[test]
fn streams_beyond_the_limit_are_told_to_come_back() {
    let running = Running::with(Limits { event_streams: 1, ..Limits::default() });
    let mut first = Events::open(running.http, CHANGES, None);
    first.next().unwrap();
    assert_eq!(get(running.http, "/v1/status/stream").status, 503);
}

#[test]
fn status_and_dashboards_come_as_streams() {
    let fast = Duration::from_millis(2);
    let running = Running::with(Limits { status_interval: fast, dashboards_interval: fast, ..Limits::default() });
    let mut status = Events::open(running.http, "/v1/status/stream", None);
    for _ in 0..3 {
        let event = status.next().unwrap();
        assert_eq!((event.name.as_str(), &event.data["name"]), ("status", &json!("flights")));
    }
    let mut dashboards = Events::open(running.http, "/v1/dashboards/stream", None);
    assert_eq!(dashboards.next().unwrap().data, json!([]));
    let made = Dashboard { name: "new".into(), title: "New".into(), panels: vec![] };
    running.memory.dashboards.lock().push(made);
    let event = dashboards.next().unwrap();
    assert_eq!((event.name.as_str(), &event.data[0]["title"]), ("dashboards", &json!("New")));
}
