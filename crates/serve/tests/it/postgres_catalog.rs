//! `pg_catalog` as clients ask for it: the same answers each time, also to many at once.

use crate::running::Running;
use crate::wire::{Wire, texts};
use std::sync::Barrier;

const SCHEMAS: &str = "SELECT nspname FROM pg_namespace ORDER BY nspname";
const RELATIONS: &str = "SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                         ORDER BY c.oid";

/// What the driver for JDBC asks for `getTypeInfo`, shortened.
const TYPES: &str = "SELECT t.typname, t.oid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n \
                     ON (t.typnamespace = n.oid) WHERE n.nspname != 'pg_toast' AND t.typname = 'int8'";

#[test]
fn the_catalog_is_the_same_each_time_it_is_asked_for() {
    let running = Running::start();
    let mut wire = Wire::connect(running.postgres);
    let relations = texts(&wire.query(RELATIONS));
    assert!(relations.iter().any(|row| row[1] == "public" && row[2] == "totals"), "{relations:?}");
    for turn in 0..4 {
        assert!(texts(&wire.query(SCHEMAS)).contains(&vec!["pg_catalog".to_owned()]), "{turn}");
        assert_eq!(texts(&wire.query(RELATIONS)), relations, "{turn}");
        assert_eq!(texts(&wire.query(TYPES)), [["int8", "20"]], "{turn}");
    }
}

#[test]
fn the_catalog_is_the_same_for_all_who_ask_at_once() {
    let running = Running::start();
    let relations = texts(&Wire::connect(running.postgres).query(RELATIONS));
    const CLIENTS: usize = 4;
    let begin = Barrier::new(CLIENTS);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (running, begin, relations) = (&running, &begin, &relations);
            scope.spawn(move || {
                let mut wire = Wire::connect(running.postgres);
                begin.wait();
                for turn in 0..5 {
                    assert_eq!(texts(&wire.query(TYPES)), [["int8", "20"]], "{client} {turn}");
                    assert_eq!(texts(&wire.query(RELATIONS)), *relations, "{client} {turn}");
                }
            });
        }
    });
}

#[test]
fn a_relation_keeps_its_id_when_others_come_and_go() {
    let running = Running::start();
    let mut wire = Wire::connect(running.postgres);
    let id = |wire: &mut Wire| texts(&wire.query("SELECT oid FROM pg_class WHERE relname = 'totals'"));
    let before = id(&mut wire);
    assert_eq!(before.len(), 1);
    wire.query("create materialized view made as select 1");
    assert_eq!(id(&mut wire), before);
    wire.query("drop materialized view made");
    assert_eq!(id(&mut wire), before);
}
