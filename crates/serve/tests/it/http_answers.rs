//! Every resource of `/v1`, its formats and its errors.

use crate::client::{get, get_as, post, request, sql};
use crate::running::Running;
use rivermere_serve::{Limits, RunState};
use serde_json::json;
use std::time::Duration;

#[test]
fn views_are_listed_with_columns_and_key() {
    let running = Running::start();
    let views = get(running.http, "/v1/views").json();
    assert_eq!(views[1]["name"], "totals");
    assert_eq!(views[1]["columns"][3], json!({"name": "at", "type": "Timestamp(ms)", "nullable": false}));
    assert_eq!((&views[1]["key"], &views[1]["stored_as"]), (&json!(["name"]), &json!("delta")));
    assert_eq!((&views[0]["rows"], &views[0]["stored_as"]), (&json!(3000), &json!(null)));
}

#[test]
fn a_view_is_filtered_ordered_and_cut() {
    let running = Running::start();
    let answer = get(running.http, "/v1/views/totals?order=-total&limit=2");
    let rows = json!([
        {"name": "b", "total": 2, "share": 0.5, "at": "1970-01-01T02:00:00"},
        {"name": "a", "total": 1, "share": 0.25, "at": "1970-01-01T01:00:00"},
    ]);
    assert_eq!(answer.json(), rows);
    assert_eq!(answer.headers["rivermere-change-id"], "1.1.1");
    let zero = json!([{"name": "zero", "total": 0, "share": null, "at": "1970-01-01T00:00:00"}]);
    assert_eq!(get(running.http, "/v1/views/totals?total=0&name=zero").json(), zero);
    assert_eq!(get(running.http, "/v1/views/totals?at=1970-01-01T00:00:00").json(), zero);
    assert_eq!(get(running.http, "/v1/views/totals?limit=0").json(), json!([]));
    assert_eq!(get(running.http, "/v1/views/many").json().as_array().unwrap().len(), 1000);
    assert_eq!(get(running.http, "/v1/views/many?limit=100000").json().as_array().unwrap().len(), 3000);
}

#[test]
fn formats_are_chosen_by_parameter_and_accept_header() {
    let running = Running::start();
    let csv = get(running.http, "/v1/views/totals?name=a&format=csv");
    assert_eq!(csv.text(), "name,total,share,at\na,1,0.25,1970-01-01T01:00:00\n");
    assert!(csv.headers["content-type"].starts_with("text/csv"));
    let ndjson = get_as(running.http, "/v1/views/totals?name=a", "application/x-ndjson");
    assert_eq!(ndjson.text(), "{\"name\":\"a\",\"total\":1,\"share\":0.25,\"at\":\"1970-01-01T01:00:00\"}\n");
    assert_eq!(get_as(running.http, "/v1/views/totals", "image/png").error().0, 406);
    assert_eq!(get(running.http, "/v1/views/totals?format=xml").error().0, 406);
    let empty = get(running.http, "/v1/views/totals?name=nobody&format=csv");
    assert_eq!(empty.text(), "name,total,share,at\n");
}

#[test]
fn mistakes_are_told_with_code_and_hint() {
    let running = Running::start();
    let check = |path: &str, status: u16, code: &str, hint: &str| {
        let error = get(running.http, path).error();
        assert_eq!((error.0, error.1.as_str()), (status, code), "{path}");
        assert!(error.2.contains(hint), "{path}: {}", error.2);
    };
    check("/v1/views/total", 404, "RM-6002", "did you mean 'totals'?");
    check("/v1/views/totals?nmae=a", 400, "RM-6003", "did you mean 'name'?");
    check("/v1/views/totals?order=-shares", 400, "RM-6003", "did you mean 'share'?");
    check("/v1/views/totals?total=many", 400, "RM-6004", "");
    check("/v1/views/totals?limit=-1", 400, "RM-6004", "");
    check("/v1/views/totals?limit=100001", 400, "RM-6004", "");
    check("/v1/view", 404, "RM-6001", "/v1/views");
    check("/v1/views/totals/changes?after=yesterday", 400, "RM-6012", "leave the id out");
    check("/v1/views/total/changes", 404, "RM-6002", "did you mean 'totals'?");
    check("/v1/sql", 405, "RM-6013", "");
    assert_eq!(request(running.http, "POST", "/v1/views", &[], b"").error().0, 405);
    assert_eq!(request(running.http, "POST", "/", &[], b"").error().0, 405);
    let wrong = get(running.http, "/v1/views/totals?total=many").json();
    assert_eq!(wrong["error"]["message"], "'many' is no value of type Int64 for 'total'");
}

#[test]
fn a_statement_is_answered_in_every_format() {
    let running = Running::start();
    let rows = sql(running.http, "select name, total * 2 as twice from totals where total > 0 order by name");
    assert_eq!(rows.json(), json!([{"name": "a", "twice": 2}, {"name": "b", "twice": 4}]));
    let csv = request(
        running.http,
        "POST",
        "/v1/sql",
        &[("content-type", "text/plain"), ("accept", "text/csv")],
        b"select count(*) as n from many",
    );
    assert_eq!(csv.text(), "n\n3000\n");
    let made = sql(running.http, "create materialized view made as select 1");
    assert_eq!(made.json(), json!([{"status": "created", "name": "made"}]));
    let seen = sql(running.http, "select total from made");
    assert_eq!(seen.json(), json!([{"total": 7}]), "a new view is there for the next statement");
}

#[test]
fn a_large_result_streams_and_equals_the_small_ones() {
    let running = Running::start();
    let statement = "select a.name, b.total from many a cross join (select total from many limit 20) b";
    let answer = sql(running.http, statement);
    assert_eq!(answer.headers.get("transfer-encoding").map(String::as_str), Some("chunked"));
    assert!(answer.whole);
    assert_eq!(answer.json().as_array().unwrap().len(), 60_000);
}

#[test]
fn a_result_that_is_too_large_never_passes_for_a_whole_one() {
    let running = Running::with(Limits { sql_rows: 2000, ..Limits::default() });
    let error = sql(running.http, "select name from many").error();
    assert_eq!((error.0, error.1.as_str()), (422, "RM-6014"));
    let long = "select repeat(name, 100) as n from many a cross join (select 1 union all select 2) b";
    let running = Running::with(Limits { sql_rows: 5990, ..Limits::default() });
    let answer = sql(running.http, &format!("{long} order by n"));
    assert!(answer.status == 422 || !answer.whole, "{} {}", answer.status, answer.body.len());
}

#[test]
fn errors_in_statements_keep_the_platforms_code_and_hint() {
    let running = Running::start();
    let error = sql(running.http, "selct 1").error();
    assert_eq!(error, (400, "RM-3001".into(), "did you mean 'SELECT'?".into()));
    let exists = sql(running.http, "create materialized view totals as select 1").error();
    assert_eq!((exists.0, exists.1.as_str()), (409, "RM-3010"));
    let zero = sql(running.http, "select total / (total - total) from totals").error();
    assert_eq!((zero.0, zero.1.as_str()), (400, "RM-6034"));
    for body in ["", "{", "{\"sql\": 1}", "{\"slq\": \"select 1\"}", "[]"] {
        let error = post(running.http, "/v1/sql", "application/json", body).error();
        assert_eq!((error.0, error.1.as_str()), (400, "RM-6008"), "{body}");
    }
}

#[test]
fn a_statement_for_reading_cannot_write() {
    let running = Running::start();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("stolen.csv");
    for statement in [
        format!("copy (select * from totals) to '{}'", target.display()),
        format!("create external table stolen stored as csv location '{}'", target.display()),
        "set datafusion.execution.batch_size = 1".to_owned(),
    ] {
        assert_eq!(sql(running.http, &statement).error().1, "RM-3001", "only the command door may see: {statement}");
    }
    assert!(!target.exists());
    assert_eq!(running.memory.statements.lock().len(), 3);
}

#[test]
fn statements_beyond_the_limit_are_told_to_come_back() {
    let limits = Limits { concurrent_statements: 1, statement_wait: Duration::ZERO, ..Limits::default() };
    let running = Running::with(limits);
    // This one adds for hours.
    let long = "select sum(value % 7) from generate_series(1, 100000000000000)";
    let body = serde_json::json!({ "sql": long }).to_string();
    let headers = [("content-type", "application/json")];
    let unread = crate::client::open(running.http, "POST", "/v1/sql", &headers, body.as_bytes());
    let is_running = |count: &str| {
        let line = format!("rivermere_serve_statements_running {count}\n");
        while !get(running.http, "/metrics").text().contains(&line) {
            std::thread::yield_now();
        }
    };
    is_running("1");
    let busy = sql(running.http, "select 1");
    assert_eq!((busy.status, busy.headers["retry-after"].as_str()), (503, "1"));
    // A client that goes away cancels its statement.
    drop(unread);
    is_running("0");
    assert_eq!(sql(running.http, "select 1 as one").json(), json!([{"one": 1}]));
}

#[test]
fn a_reader_that_pauses_keeps_nobody_waiting() {
    let limits = Limits { concurrent_statements: 1, ..Limits::default() };
    let running = Running::with(limits);
    let body = serde_json::json!({"sql": "select repeat(a.name, 100) as n from many a cross join many b"}).to_string();
    let headers = [("content-type", "application/json")];
    let mut unread = crate::client::open(running.http, "POST", "/v1/sql", &headers, body.as_bytes());
    assert_eq!(crate::client::head(&mut unread).0, 200);
    assert_eq!(sql(running.http, "select 1 as one").json(), json!([{"one": 1}]));
}

#[test]
fn records_are_appended_as_they_came() {
    let running = Running::start();
    let path = "/v1/topics/departures/records";
    let one = post(running.http, path, "application/json", "{\"a\": 1.10}").json();
    assert_eq!(one, json!({"partition": 0, "offset": 0, "count": 1}));
    let more = post(running.http, path, "application/x-ndjson; charset=utf-8", "{\"a\":2}\n{\"a\":3}\n").json();
    assert_eq!(more, json!({"partition": 0, "offset": 1, "count": 2}));
    let array = post(running.http, path, "application/json", "[{\"a\":4}, {\"a\":5}]").json();
    assert_eq!(array["offset"], 3);
    let kept = running.memory.topics.lock()["departures"].clone();
    assert_eq!(kept, ["{\"a\": 1.10}", "{\"a\":2}", "{\"a\":3}", "{\"a\":4}", "{\"a\":5}"]);
    let error = post(running.http, path, "application/json", "{\"a\":1}\nnope").error();
    assert_eq!((error.0, error.1.as_str()), (400, "RM-6008"));
    assert_eq!(running.memory.topics.lock()["departures"].len(), 5, "nothing of a broken body is kept");
    let unknown = post(running.http, "/v1/topics/departure/records", "application/json", "{}").error();
    assert_eq!(unknown, (404, "RM-3002".into(), "did you mean 'departures'?".into()));
}

#[test]
fn a_body_above_the_limit_is_refused() {
    let running = Running::with(Limits { body_bytes: 1000, append_records: 3, ..Limits::default() });
    let path = "/v1/topics/departures/records";
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(1000));
    assert_eq!(post(running.http, path, "application/json", &long).error().0, 413);
    assert_eq!(post(running.http, path, "application/json", "{}{}{}{}").error().0, 400);
    assert!(running.memory.topics.lock()["departures"].is_empty());
}

#[test]
fn status_dashboards_and_health_are_told() {
    let running = Running::start();
    let status = get(running.http, "/v1/status").json();
    assert_eq!((&status["state"], &status["epoch"]), (&json!("running"), &json!(12)));
    assert_eq!(status["edges"], json!([["departures", "totals"]]));
    assert_eq!(status["addresses"], json!({"http": "http://127.0.0.1:8080"}));
    assert_eq!(status["nodes"][0]["kind"], "topic");
    assert_eq!(get(running.http, "/v1/dashboards").json(), json!([]));
    assert_eq!(get(running.http, "/healthz").text(), "ok\n");
    assert_eq!(get(running.http, "/readyz").status, 200);
    *running.memory.state.lock() = RunState::Starting;
    let waiting = get(running.http, "/readyz");
    assert_eq!((waiting.status, waiting.text().as_str()), (503, "starting\n"));
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let running = Running::start();
    get(running.http, "/v1/views/totals");
    let page = get(running.http, "/metrics").text();
    for line in [
        "rivermere_up 1",
        "rivermere_stream_lag_records 5",
        "rivermere_stream_node_dead_records{node=\"departures\",kind=\"topic\"} 2",
        "rivermere_table_confirmed_epoch{sink=\"rivermere/x/totals\",view=\"totals\",format=\"delta\"} 11",
        "rivermere_serve_http_responses_total{route=\"/v1/views/{name}\",status=\"200\"} 1",
        "rivermere_serve_sent_rows_total 3",
    ] {
        assert!(page.lines().any(|known| known == line), "{line} is not in\n{page}");
    }
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("rivermere_") && value.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn pages_are_compressed_tagged_and_have_heads() {
    let running = Running::start();
    let page = request(running.http, "GET", "/", &[("accept-encoding", "gzip")], b"");
    assert_eq!((page.status, page.headers["content-encoding"].as_str()), (200, "gzip"));
    let plain = get(running.http, "/");
    assert!(plain.text().to_lowercase().starts_with("<!doctype html>"), "{}", plain.text());
    let known = request(running.http, "GET", "/", &[("if-none-match", &plain.headers["etag"])], b"");
    assert_eq!((known.status, known.body.len()), (304, 0));
    let head = request(running.http, "HEAD", "/v1/views/totals", &[], b"");
    assert_eq!((head.status, head.headers["content-type"].as_str()), (200, "application/json"));
}

#[test]
fn the_catalog_of_iceberg_tables_says_what_clients_expect() {
    let running = Running::start();
    let config = get(running.http, "/iceberg/v1/config").json();
    assert!(config["endpoints"].as_array().unwrap().len() > 5, "{config}");
    assert_eq!(get(running.http, "/iceberg/v1/namespaces").json(), json!({"namespaces": [["public"]]}));
    let tables = get(running.http, "/iceberg/v1/namespaces/public/tables").json();
    assert_eq!(tables, json!({"identifiers": [{"namespace": ["public"], "name": "stock"}]}));
    let loaded = get(running.http, "/iceberg/v1/namespaces/public/tables/stock").json();
    assert_eq!(loaded["metadata-location"], "file:///stock/v1.metadata.json");
    for (path, status, kind) in [
        ("/iceberg/v1/namespaces/other", 404, "NoSuchNamespaceException"),
        ("/iceberg/v1/namespaces/other/tables", 404, "NoSuchNamespaceException"),
        ("/iceberg/v1/namespaces/public/tables/nothing", 404, "NoSuchTableException"),
    ] {
        let answer = get(running.http, path);
        assert_eq!((answer.status, &answer.json()["error"]["type"]), (status, &json!(kind)), "{path}");
        assert_eq!(answer.json()["error"]["code"], status);
    }
    for (body, status, kind) in [("", 400, "BadRequestException"), ("{}", 409, "CommitFailedException")] {
        let answer = post(running.http, "/iceberg/v1/namespaces/public/tables/stock", "application/json", body);
        assert_eq!((answer.status, &answer.json()["error"]["type"]), (status, &json!(kind)), "'{body}'");
    }
    let tables = "/iceberg/v1/namespaces/public/tables";
    for (body, status, kind) in [("", 400, "BadRequestException"), ("{}", 409, "AlreadyExistsException")] {
        let answer = post(running.http, tables, "application/json", body);
        assert_eq!((answer.status, &answer.json()["error"]["type"]), (status, &json!(kind)), "'{body}'");
    }
    for (name, status) in [("public", 409), ("other", 400)] {
        let body = json!({ "namespace": [name] }).to_string();
        assert_eq!(post(running.http, "/iceberg/v1/namespaces", "application/json", &body).status, status, "{name}");
    }
    for (path, status) in [("stock?purgeRequested=False", 204), ("nothing", 404), ("stock?purgeRequested=true", 400)] {
        assert_eq!(request(running.http, "DELETE", &format!("{tables}/{path}"), &[], b"").status, status, "{path}");
    }
}
