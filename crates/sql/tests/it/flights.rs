//! The demo's project: its files parse, plan, and keep little.

use rivermere_sql::{Planner, Script, Statement, ViewDefinition, explain_streaming};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Plans `projects/flights/sql/*.sql` in the order of their names.
fn flights() -> (Planner, BTreeMap<String, Arc<ViewDefinition>>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../projects/flights/sql");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut planner = Planner::new();
    let mut views = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let script = Script::parse(&file.to_string_lossy(), &text).unwrap_or_else(|error| panic!("{error}"));
        for parsed in script.statements() {
            match &parsed.statement {
                Statement::CreateTable(create) => {
                    planner.add_table(create.define(parsed).unwrap_or_else(|error| panic!("{error}"))).unwrap();
                }
                Statement::CreateView(create) => {
                    let view = planner.plan_view(create, parsed).unwrap_or_else(|error| panic!("{error}"));
                    planner.add_view(view.clone()).unwrap();
                    views.insert(view.name.clone(), view);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    (planner, views)
}

fn explained(name: &str) -> String {
    let (planner, views) = flights();
    let text = explain_streaming(&planner, &views[name].plan).unwrap();
    println!("{text}");
    text
}

#[test]
fn views_have_the_keys_that_readers_and_tables_need() {
    let (_, views) = flights();
    let key = |name: &str| views[name].key();
    let names = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(key("delays_by_airport"), names(&["origin", "window_start", "window_end"]));
    assert_eq!(key("on_time_by_carrier"), names(&["origin", "carrier", "carrier_name"]));
    assert_eq!(key("on_time_ranking"), names(&["origin", "rank"]));
    assert_eq!(key("delay_by_weather"), names(&["conditions"]));
    assert_eq!(key("arrival_delays"), names(&["carrier", "carrier_name"]));
    let stored: Vec<&str> =
        views.values().filter(|view| view.stored_as.is_some()).map(|view| view.name.as_str()).collect();
    assert_eq!(stored, ["delays_by_airport", "flights_enriched"]);
}

#[test]
fn enriched_flights_are_only_ever_added() {
    let (_, views) = flights();
    assert!(views["flights_enriched"].plan.properties.append_only);
    let text = explained("flights_enriched");
    assert!(!text.contains("unbounded"), "{text}");
    assert!(!text.contains("late rows"), "a lookup needs no watermark\n{text}");
}

#[test]
fn windows_of_delays_are_let_go() {
    let text = explained("delays_by_airport");
    assert!(text.contains("state kept until floor(watermark(departures), 1 h)"), "{text}");
    assert!(!text.contains("unbounded"), "{text}");
}

#[test]
fn the_join_with_the_weather_lets_old_hours_go() {
    let text = explained("delay_by_weather");
    let bound = "state kept until floor(watermark(departures), 1 h) and floor(watermark(weather), 1 h)";
    let join = text.lines().find(|line| line.contains("Join")).unwrap();
    assert!(join.contains(bound), "{text}");
    assert!(join.contains("append-only"), "{text}");
    assert_eq!(text.matches("unbounded").count(), 1, "only the few groups stay\n{text}");
}

#[test]
fn other_states_are_a_row_for_each_carrier_at_most() {
    for (view, unbounded) in [("on_time_by_carrier", 1), ("on_time_ranking", 1), ("arrival_delays", 1)] {
        let text = explained(view);
        assert_eq!(text.matches("unbounded").count(), unbounded, "{text}");
    }
    let (_, views) = flights();
    assert!(views["latest_departures"].plan.inputs.contains("flights_enriched"));
}
