//! PostgreSQL's protocol message by message: simple and extended query, cancel, limits, malformed input.

use crate::running::Running;
use crate::wire::{
    Message, Wire, bind, describe_portal, error_field, execute, letters, message, parse, rows, startup, sync, tags,
    texts,
};
use rivermere_serve::Limits;

const INT4: u32 = 23;
const INT8: u32 = 20;
const TEXT: u32 = 25;

#[test]
fn a_client_is_told_what_it_expects_from_a_server() {
    let running = Running::start();
    let wire = Wire::connect(running.postgres);
    let told = |name: &str| {
        let parameter = wire.parameters.iter().find(|(known, _)| known == name);
        parameter.unwrap_or_else(|| panic!("no {name}")).1.as_str()
    };
    assert!(told("server_version").starts_with("16.6 (Rivermere"));
    assert_eq!((told("client_encoding"), told("TimeZone"), told("integer_datetimes")), ("UTF8", "UTC", "on"));
    assert_eq!((told("standard_conforming_strings"), told("session_authorization")), ("on", "anyone"));
}

#[test]
fn several_statements_in_one_text_are_answered_one_by_one() {
    let running = Running::start();
    let mut wire = Wire::connect(running.postgres);
    let answer = wire.query(
        "create materialized view made as select ';'; select name, total, share, at from made;; -- done\n \
         insert into departures values (1), (2);",
    );
    assert_eq!(tags(&answer), ["CREATE MATERIALIZED VIEW", "SELECT 1", "INSERT 0 2"]);
    assert_eq!(texts(&answer), [["made", "7", "1.75", "1970-01-01 07:00:00"]]);
    assert_eq!(running.memory.statements.lock()[0], "create materialized view made as select ';'");
    assert_eq!(letters(&wire.query(" ; -- nothing\n")), "IZ");
}

#[test]
fn an_error_ends_a_text_and_not_the_connection() {
    let running = Running::start();
    let mut wire = Wire::connect(running.postgres);
    let answer = wire.query("select total from totals where name = 'a'; selct 1; insert into departures values (1)");
    assert_eq!((letters(&answer).as_str(), texts(&answer)), ("TDCEZ", vec![vec!["1".to_owned()]]));
    assert_eq!(error_field(&answer, 'C').as_deref(), Some("42601"));
    let message = "RM-3001: line 1, column 1: this is no statement of the dialect";
    assert_eq!(error_field(&answer, 'M').as_deref(), Some(message));
    assert_eq!(error_field(&answer, 'H').as_deref(), Some("did you mean 'SELECT'?"));
    assert!(running.memory.topics.lock()["departures"].is_empty(), "nothing after the error was done");
    let check = |wire: &mut Wire, text: &str, sqlstate: &str| {
        assert_eq!(error_field(&wire.query(text), 'C').as_deref(), Some(sqlstate), "{text}");
    };
    check(&mut wire, "select total / (total - total) from totals", "22012");
    check(&mut wire, "create materialized view totals as select 1", "42P07");
    check(&mut wire, "insert into nowhere values (1)", "42P01");
    check(&mut wire, "select * from pg_catalog.nothing", "42P01");
    check(&mut wire, "show nothing", "42704");
    check(&mut wire, "set client_encoding to 'latin1'", "0A000");
    assert_eq!(texts(&wire.query("select 1")), [["1"]]);
}

#[test]
fn a_session_for_reading_cannot_write() {
    let running = Running::start();
    let mut wire = Wire::connect(running.postgres);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("stolen.csv");
    wire.query(&format!("copy (select * from totals) to '{}'", target.display()));
    wire.query(&format!("explain analyze copy (select * from totals) to '{}'", target.display()));
    assert!(!target.exists());
}

#[test]
fn parameters_come_as_text_and_as_binary() {
    let running = Running::start();
    let mut wire = Wire::connect(running.postgres);
    let statement = "select name, total from totals where total >= $1 and name <> $2 order by total";
    for (types, format, number) in [(&[][..], 0, &b"1"[..]), (&[INT4, TEXT], 1, &[0, 0, 0, 1]), (&[INT8, 0], 0, b"1")] {
        wire.send_raw(&parse(statement, types));
        wire.send_raw(&bind(&[format, 0], &[Some(number), Some(b"zero")], &[0, 1]));
        wire.send_raw(&[describe_portal(), execute(0), sync()].concat());
        let answer = wire.until_ready();
        assert_eq!(letters(&answer), "12TDDCZ", "{:?}", error_field(&answer, 'M'));
        let two = 2_i64.to_be_bytes().to_vec();
        assert_eq!(rows(&answer)[1], [Some(b"b".to_vec()), Some(two)], "text and binary column");
    }
}

#[test]
fn a_prepared_statement_reads_the_rows_of_now() {
    let running = Running::start();
    let mut wire = Wire::connect(running.postgres);
    wire.send_raw(&message('P', b"s\0select total from totals where name = $1\0\0\0"));
    wire.send_raw(&[message('D', b"Ss\0"), sync()].concat());
    let described = wire.until_ready();
    assert_eq!(letters(&described), "1tTZ");
    assert_eq!(described[1].1, [&1_u16.to_be_bytes()[..], &TEXT.to_be_bytes()].concat(), "one parameter, text");
    let mut ask = || {
        let mut bound = bind(&[], &[Some(b"a")], &[]);
        // The statement's name in place of none.
        bound = message('B', &[b"\0s\0", &bound[7..]].concat());
        wire.send_raw(&[bound, execute(0), sync()].concat());
        texts(&wire.until_ready())
    };
    assert_eq!(ask(), [["1"]]);
    running.memory.push("totals", &[("a", 41)]);
    assert_eq!(ask(), [["41"]]);
}

#[test]
fn commands_take_parameters_too() {
    let running = Running::start();
    let mut wire = Wire::connect(running.postgres);
    wire.send_raw(&parse("insert into departures values ($1, $2)", &[INT4, TEXT]));
    wire.send_raw(&bind(&[1, 0], &[Some(&[0, 0, 0, 7]), Some(b"it's")], &[]));
    wire.send_raw(&[describe_portal(), execute(0), sync()].concat());
    let answer = wire.until_ready();
    assert_eq!((letters(&answer).as_str(), tags(&answer)), ("12nCZ", vec!["INSERT 0 1".to_owned()]));
    assert_eq!(running.memory.statements.lock()[0], "insert into departures values (7, 'it''s')");
}

#[test]
fn a_portal_is_read_in_parts() {
    let running = Running::start();
    let mut wire = Wire::connect(running.postgres);
    wire.send_raw(&[parse("select name from many order by name", &[]), bind(&[], &[], &[]), execute(2)].concat());
    wire.send_raw(&[execute(2), execute(0), sync()].concat());
    let answer = wire.until_ready();
    let rows = texts(&answer);
    assert_eq!((rows.len(), rows[2][0].as_str(), tags(&answer)), (3000, "n0002", vec!["SELECT 2996".to_owned()]));
    assert!(letters(&answer).starts_with("12DDsDDsD"));
    // As many rows as the protocol can ask for must not be reserved in memory.
    for most in [i32::MAX, i32::MIN, -1] {
        wire.send_raw(&[parse("select 1", &[]), bind(&[], &[], &[]), execute(most), sync()].concat());
        assert_eq!(letters(&wire.until_ready()), "12DCZ", "{most}");
    }
}

#[test]
fn settings_are_kept_and_told() {
    let running = Running::start();
    let mut wire = Wire::connect(running.postgres);
    assert_eq!(letters(&wire.query("set application_name to 'other'")), "SCZ");
    assert_eq!(texts(&wire.query("show application_name")), [["other"]]);
    assert_eq!(texts(&wire.query("show transaction isolation level")), [["read committed"]]);
    assert_eq!(tags(&wire.query("set time zone 'UTC'; set search_path = public, other; discard all")).len(), 3);
    assert_eq!(texts(&wire.query("show standard_conforming_strings")), [["on"]]);
    assert!(texts(&wire.query("show all")).len() > 10);
    wire.send_raw(
        &[parse("show server_version", &[]), bind(&[], &[], &[]), describe_portal(), execute(0), sync()].concat(),
    );
    assert_eq!(letters(&wire.until_ready()), "12TDCZ");
}

#[test]
fn a_transaction_is_a_state_that_fails_and_ends() {
    let running = Running::start();
    let mut wire = Wire::connect(running.postgres);
    let state = |messages: &[Message]| messages.last().unwrap().1[0] as char;
    assert_eq!(state(&wire.query("begin")), 'T');
    assert_eq!(state(&wire.query("select 1")), 'T');
    assert_eq!(state(&wire.query("selct")), 'E');
    assert_eq!(error_field(&wire.query("select 1"), 'C').as_deref(), Some("25P02"));
    let end = wire.query("commit");
    assert_eq!((state(&end), tags(&end)), ('I', vec!["ROLLBACK".to_owned()]));
    assert_eq!(texts(&wire.query("select 1")), [["1"]]);
}

#[test]
fn cursors_go_forward() {
    let running = Running::start();
    let mut wire = Wire::connect(running.postgres);
    wire.query("begin; declare c cursor for select name from many order by name");
    assert_eq!(texts(&wire.query("fetch 2 from c")), [["n0000"], ["n0001"]]);
    assert_eq!(texts(&wire.query("fetch next from c")), [["n0002"]]);
    assert_eq!(error_field(&wire.query("fetch prior from c"), 'C').as_deref(), Some("55000"));
    wire.query("rollback");
    assert_eq!(texts(&wire.query("fetch all from c")).len(), 2997);
    assert_eq!(tags(&wire.query("close c")), ["CLOSE CURSOR"]);
    assert_eq!(error_field(&wire.query("fetch 1 from c"), 'C').as_deref(), Some("34000"));
}

/// Adds for hours.
const LONG: &str = "select sum(value % 7) from generate_series(1, 100000000000000)";

#[test]
fn a_statement_is_cancelled_by_request_and_by_its_timeout() {
    let running = Running::start();
    let mut wire = Wire::connect(running.postgres);
    wire.send('Q', &[LONG.as_bytes(), b"\0"].concat());
    let mut cancel = Vec::from(16_u32.to_be_bytes());
    cancel.extend(80_877_102_u32.to_be_bytes());
    cancel.extend(wire.process.to_be_bytes());
    cancel.extend(wire.key.to_be_bytes());
    while !crate::client::get(running.http, "/metrics").text().contains("rivermere_serve_statements_running 1\n") {
        std::thread::yield_now();
    }
    Wire::raw(running.postgres).send_raw(&cancel);
    assert_eq!(error_field(&wire.until_ready(), 'C').as_deref(), Some("57014"));
    while !crate::client::get(running.http, "/metrics").text().contains("rivermere_serve_statements_running 0\n") {
        std::thread::yield_now();
    }
    wire.query("set statement_timeout to '20ms'");
    assert_eq!(error_field(&wire.query(LONG), 'C').as_deref(), Some("57014"));
    wire.query("set statement_timeout to 0");
    assert_eq!(texts(&wire.query("select 1")), [["1"]]);
}

#[test]
fn malformed_input_costs_its_sender_the_connection_and_nobody_else() {
    let running = Running::start();
    let shapes: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        vec![0; 64],
        vec![255; 64],
        [&4_u32.to_be_bytes()[..], &[0; 4]].concat(),
        [&8_u32.to_be_bytes()[..], &99_u32.to_be_bytes()].concat(),
        [&0x7fff_ffff_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes()].concat(),
    ];
    for shape in shapes {
        let mut wire = Wire::raw(running.postgres);
        wire.send_raw(&shape);
    }
    let after_startup: Vec<Vec<u8>> = vec![
        message('Q', b"select 1"),
        message('Q', &[b's', 0xff, 0xfe, 0]),
        message('P', b""),
        message('P', b"\0select $1\0\xff\xff"),
        message('B', b"\0\0\xff\xff"),
        message('B', b"\0\0\0\0\xff\xff\0\0"),
        message('E', b"\0"),
        message('D', b"X\0"),
        message('C', b""),
        message('d', b"copy data"),
        message('~', b"what"),
        vec![b'Q', 0, 0, 0, 0],
        vec![b'Q', 0xff, 0xff, 0xff, 0xff],
        vec![b'P', 0x7f, 0xff, 0xff, 0xff, 0],
    ];
    for shape in after_startup {
        let mut wire = Wire::connect(running.postgres);
        wire.send_raw(&shape);
        // The server may close at once; then this has nowhere to go.
        drop(wire);
    }
    let mut wire = Wire::connect(running.postgres);
    let wrong: [Vec<u8>; 6] = [
        bind(&[1, 1, 1], &[Some(&[0, 0, 0, 1])], &[]),
        bind(&[1], &[Some(&[0, 1])], &[]),
        bind(&[0], &[Some(b"many")], &[]),
        bind(&[], &[], &[]),
        bind(&[0], &[Some(b"1")], &[0, 0, 0]),
        bind(&[0], &[Some(&[0xff, 0xfe])], &[]),
    ];
    for bound in wrong {
        wire.send_raw(&[parse("select total from totals where total = $1", &[INT4]), bound].concat());
        wire.send_raw(&[describe_portal(), execute(0), sync()].concat());
        let answer = wire.until_ready();
        assert!(error_field(&answer, 'C').is_some(), "{}", letters(&answer));
        assert_eq!(answer.last().unwrap().0, 'Z');
    }
    let deep = format!("select {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    assert_eq!(letters(&wire.query(&deep)), "EZ");
    assert_eq!(texts(&wire.query("select 1")), [["1"]]);
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let running = Running::with(Limits { postgres_connections: 1, ..Limits::default() });
    let first = Wire::connect(running.postgres);
    let mut second = Wire::raw(running.postgres);
    second.send_raw(&startup(&[("user", "anyone")]));
    let answer = second.until_ready();
    assert_eq!(error_field(&answer, 'C').as_deref(), Some("53300"));
    drop(first);
}
