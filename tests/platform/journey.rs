//! One flight's journey: produce, log, decode, step, aggregate; then every step to the change feed, and every epoch to
//! the Delta table.

use crate::harness::{PATIENCE, assert_views_equal_batch, eventually, get, produce, sql, start, stop, write_project};
use std::io::{BufRead, BufReader};
use std::time::Instant;

const PROJECT: &str = "
CREATE TABLE departures (
  carrier TEXT NOT NULL, origin TEXT, dep_delay DOUBLE, departed_at TIMESTAMP(3),
  WATERMARK FOR departed_at AS departed_at - INTERVAL '2' HOUR
) WITH ('connector' = 'kafka', 'topic' = 'departures', 'format' = 'json');

CREATE MATERIALIZED VIEW delays_by_airport STORED AS DELTA AS
SELECT origin, window_start, window_end, COUNT(*) AS departures, AVG(dep_delay) AS avg_delay
FROM TABLE(TUMBLE(TABLE departures, DESCRIPTOR(departed_at), INTERVAL '1' HOUR))
GROUP BY origin, window_start, window_end;
";

#[tokio::test(flavor = "multi_thread")]
async fn one_flight_from_the_producer_to_the_page_and_to_the_lake() {
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), PROJECT);
    let data = folder.path().join("data");
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));

    // A reader of the page is there before the flight.
    let url = format!("{}/v1/views/delays_by_airport/changes", assembly.addresses().http.unwrap());
    let (events, seen) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let body = ureq::get(&url).call().unwrap().into_body().into_reader();
        for line in BufReader::new(body).lines().map_while(Result::ok) {
            if events.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
    let line = |what: &str, is_it: &dyn Fn(&str) -> bool| loop {
        let (at, line) = seen.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("waited for {what}: {error}"));
        if is_it(&line) {
            return (at, line);
        }
    };
    line("the first event", &|line| line.starts_with("event: reset"));

    let flight = r#"{"carrier":"UA","origin":"EWR","dep_delay":2.0,"departed_at":"2013-01-01T05:17:00"}"#;
    let start_of_journey = Instant::now();
    produce(&assembly, "departures", &[flight.to_string()]).await;
    println!("produced and durable after {:?}", start_of_journey.elapsed());

    eventually("the step", || {
        (get(&assembly, "/v1/status")["lag"] == 0 && get(&assembly, "/v1/status")["step"] != 0).then_some(())
    })
    .await;
    let (at, line) = line("the flight", &|line| line.starts_with("data:") && line.contains("EWR"));
    println!("pushed to the page after {:?}: {line}", at - start_of_journey);
    assert!(line.contains(r#""departures":1"#) && line.contains(r#""avg_delay":2.0"#), "{line}");
    assert!(line.contains("2013-01-01T05:00:00"), "{line}");

    let rows = get(&assembly, "/v1/views/delays_by_airport?origin=EWR");
    assert_eq!(rows.as_array().unwrap().len(), 1);
    println!("served over HTTP: {rows}");

    let lake = eventually("the Delta table", || {
        let rows = sql(&assembly, "SELECT origin, departures FROM delta('lake/delays_by_airport')").ok()?;
        (rows.as_array()?.len() == 1).then_some(rows)
    })
    .await;
    println!("in the lake after {:?}: {lake}", start_of_journey.elapsed());
    assert_eq!(lake[0]["departures"], 1);

    // A second flight of the same hour corrects the row; a broken record and a late one stop nothing.
    let more = [
        r#"{"carrier":"AA","origin":"EWR","dep_delay":4.0,"departed_at":"2013-01-01T05:40:00"}"#,
        "not json at all",
        r#"{"carrier":null,"origin":"EWR","departed_at":"2013-01-01T05:41:00"}"#,
        r#"{"carrier":"AA","origin":"JFK","dep_delay":1.0,"departed_at":"2013-01-01T09:00:00"}"#,
        r#"{"carrier":"AA","origin":"JFK","dep_delay":1.0,"departed_at":"2013-01-01T06:59:00"}"#,
    ];
    produce(&assembly, "departures", &more.map(String::from)).await;
    eventually("the corrected row", || {
        let rows = sql(&assembly, "SELECT departures, avg_delay FROM delays_by_airport WHERE origin = 'EWR'").ok()?;
        (rows[0]["departures"] == 2 && rows[0]["avg_delay"] == 3.0).then_some(())
    })
    .await;
    assert_views_equal_batch(&assembly);

    let letters = eventually("two dead letters", || {
        let rows = sql(&assembly, "SELECT _offset, value FROM \"departures.dlq\" ORDER BY _offset").ok()?;
        (rows.as_array()?.len() == 2).then_some(rows)
    })
    .await;
    let reasons: Vec<String> =
        letters.as_array().unwrap().iter().map(|row| row["value"].as_str().unwrap().to_string()).collect();
    assert!(reasons[0].contains(r#""offset":2"#) && reasons[0].contains("not json at all"), "{reasons:?}");
    assert!(reasons[1].contains(r#""offset":3"#) && reasons[1].contains("carrier"), "{reasons:?}");
    eventually("the late row to be counted", || {
        let status = get(&assembly, "/v1/status");
        let nodes = status["nodes"].as_array()?;
        (nodes.iter().find(|node| node["id"] == "delays_by_airport")?["late"] == 1).then_some(())
    })
    .await;
    stop(assembly).await;

    // Started again, it continues.
    let again = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    let rows = sql(&again, "SELECT departures FROM delays_by_airport WHERE origin = 'EWR'").unwrap();
    assert_eq!(rows[0]["departures"], 2);
    produce(&again, "departures", &[flight.replace("2.0", "9.0")]).await;
    eventually("the third flight", || {
        let rows = sql(&again, "SELECT departures FROM delays_by_airport WHERE origin = 'EWR'").ok()?;
        // It is hours behind the newest departure: late.
        (rows[0]["departures"] == 2 && get(&again, "/v1/status")["lag"] == 0).then_some(())
    })
    .await;
    assert_views_equal_batch(&again);
    stop(again).await;
}
