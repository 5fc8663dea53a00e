//! Nexmark events from a seed, as Arrow batches: of every fifty one person, three auctions, forty-six bids, in that
//! order, with the identities, prices, hot keys and lengths of the reference generator's default settings.
//!
//! Our own code: the same seed gives the same events everywhere, and event time starts at a fixed moment, so that runs
//! have the same windows.

use arrow::array::{ArrayRef, Int64Builder, RecordBatch, StringBuilder, TimestampMillisecondBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::sync::Arc;

const PERSONS: u64 = 1;
const AUCTIONS: u64 = 3;
const ALL: u64 = 50;

const FIRST_PERSON: u64 = 1_000;
const FIRST_AUCTION: u64 = 1_000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;
/// Persons among whom sellers and bidders are found.
const ACTIVE_PERSONS: u64 = 1_000;
/// How far ahead of the newest person or auction an event may point.
const LEAD: u64 = 10;
/// Auctions that are open at once, about.
const IN_FLIGHT: u64 = 100;
/// One key of so many is the hot one.
const HOT_EVERY: u64 = 100;
const CHANNELS: u64 = 10_000;

/// 2015-07-15T00:00:00Z, the reference generator's base time.
const BASE_MS: u64 = 1_436_918_400_000;

/// Average bytes of each kind, reached by `extra`.
const PERSON_BYTES: usize = 200;
const AUCTION_BYTES: usize = 500;
const BID_BYTES: usize = 100;

const STATES: [&str; 6] = ["az", "ca", "id", "or", "wa", "wy"];
const CITIES: [&str; 10] =
    ["phoenix", "los angeles", "san francisco", "boise", "portland", "bend", "redmond", "seattle", "kent", "cheyenne"];
const FIRST_NAMES: [&str; 11] =
    ["peter", "paul", "luke", "john", "saul", "vicky", "kate", "julie", "sarah", "deiter", "walter"];
const LAST_NAMES: [&str; 9] = ["shultz", "abrams", "spencer", "white", "bartels", "walton", "smith", "jones", "noris"];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

/// Events of one step, by table.
pub struct Step {
    pub person: RecordBatch,
    pub auction: RecordBatch,
    pub bid: RecordBatch,
    /// Latest event time of the step, in microseconds.
    pub latest_us: i64,
}

impl Step {
    pub fn table(&self, name: &str) -> &RecordBatch {
        match name {
            "person" => &self.person,
            "auction" => &self.auction,
            "bid" => &self.bid,
            other => panic!("no events of {other}"),
        }
    }
}

/// `events` in steps of `step` events, `per_second` of them in each second of event time.
pub fn generate(seed: u64, events: u64, step: u64, per_second: u64) -> Vec<Step> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut steps = vec![];
    let mut from = 0;
    while from < events {
        let to = (from + step).min(events);
        steps.push(step_of(&mut random, from, to, per_second));
        from = to;
    }
    steps
}

fn step_of(random: &mut Random, from: u64, to: u64, per_second: u64) -> Step {
    let time = |event: u64| BASE_MS + event * 1_000 / per_second;
    let mut person = Columns::new(&[
        Kind::Number,
        Kind::Text,
        Kind::Text,
        Kind::Text,
        Kind::Text,
        Kind::Text,
        Kind::Time,
        Kind::Text,
    ]);
    let mut auction = Columns::new(&[
        Kind::Number,
        Kind::Text,
        Kind::Text,
        Kind::Number,
        Kind::Number,
        Kind::Time,
        Kind::Time,
        Kind::Number,
        Kind::Number,
        Kind::Text,
    ]);
    let mut bid =
        Columns::new(&[Kind::Number, Kind::Number, Kind::Number, Kind::Text, Kind::Text, Kind::Time, Kind::Text]);
    for event in from..to {
        let now = time(event);
        let offset = event % ALL;
        if offset < PERSONS {
            let name = format!("{} {}", random.of(&FIRST_NAMES), random.of(&LAST_NAMES));
            let email = format!("{}@{}.com", random.letters(7), random.letters(5));
            let card = format!(
                "{:04} {:04} {:04} {:04}",
                random.below(10_000),
                random.below(10_000),
                random.below(10_000),
                random.below(10_000)
            );
            let (city, state) = (random.of(&CITIES), random.of(&STATES));
            let size = 16 + name.len() + email.len() + card.len() + city.len() + state.len();
            let extra = random.extra(size, PERSON_BYTES);
            person.number(0, FIRST_PERSON + last_person(event));
            for (column, value) in [(1, &*name), (2, &*email), (3, &*card), (4, city), (5, state), (7, &*extra)] {
                person.text(column, value);
            }
            person.time(6, now);
        } else if offset < PERSONS + AUCTIONS {
            let seller =
                if random.below(4) > 0 { last_person(event) / HOT_EVERY * HOT_EVERY } else { random.person(event) };
            let category = FIRST_CATEGORY + random.below(CATEGORIES);
            let initial = random.price();
            let reserve = initial + random.price();
            // Long enough for the auctions that are open at once, on average.
            let horizon = time(event + IN_FLIGHT * ALL / AUCTIONS) - now;
            let expires = now + 1 + random.below((horizon * 2).max(1));
            let (name_length, description_length) = (5 + random.below(15), 10 + random.below(90));
            let (name, description) =
                (random.letters(name_length as usize), random.letters(description_length as usize));
            let extra = random.extra(56 + name.len() + description.len(), AUCTION_BYTES);
            for (column, value) in [
                (0, FIRST_AUCTION + last_auction(event)),
                (3, initial),
                (4, reserve),
                (7, FIRST_PERSON + seller),
                (8, category),
            ] {
                auction.number(column, value);
            }
            for (column, value) in [(1, name), (2, description), (9, extra)] {
                auction.text(column, &value);
            }
            auction.time(5, now);
            auction.time(6, expires);
        } else {
            let on =
                if random.below(2) > 0 { last_auction(event) / HOT_EVERY * HOT_EVERY } else { random.auction(event) };
            let by =
                if random.below(4) > 0 { last_person(event) / HOT_EVERY * HOT_EVERY + 1 } else { random.person(event) };
            let price = random.price();
            let (channel, url) = if random.below(2) > 0 {
                let hot = random.of(&HOT_CHANNELS);
                (hot.to_string(), format!("https://www.nexmark.com/{}/item.htm?query=1", hot.to_lowercase()))
            } else {
                let number = random.below(CHANNELS);
                let path = format!("{}/{}/{}", random.letters(5), random.letters(5), random.letters(5));
                let id = (number as u32).reverse_bits();
                (
                    format!("channel-{number}"),
                    format!("https://www.nexmark.com/{path}/item.htm?query=1&channel_id={id}"),
                )
            };
            let extra = random.extra(32, BID_BYTES);
            for (column, value) in [(0, FIRST_AUCTION + on), (1, FIRST_PERSON + by), (2, price)] {
                bid.number(column, value);
            }
            for (column, value) in [(3, channel), (4, url), (6, extra)] {
                bid.text(column, &value);
            }
            bid.time(5, now);
        }
    }
    let latest_us = time(to - 1) as i64 * 1_000;
    Step {
        person: person.finish(&["id", "name", "email", "credit_card", "city", "state", "date_time", "extra"]),
        auction: auction.finish(&[
            "id",
            "item_name",
            "description",
            "initial_bid",
            "reserve",
            "date_time",
            "expires",
            "seller",
            "category",
            "extra",
        ]),
        bid: bid.finish(&["auction", "bidder", "price", "channel", "url", "date_time", "extra"]),
        latest_us,
    }
}

/// Number of the newest person when `event` happens.
fn last_person(event: u64) -> u64 {
    event / ALL * PERSONS + (event % ALL).min(PERSONS - 1)
}

/// Number of the newest auction when `event` happens.
fn last_auction(event: u64) -> u64 {
    let (epoch, offset) = (event / ALL, event % ALL);
    if offset < PERSONS {
        (epoch * AUCTIONS).saturating_sub(1)
    } else {
        epoch * AUCTIONS + (offset - PERSONS).min(AUCTIONS - 1)
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    fn of(&mut self, choices: &[&'static str]) -> &'static str {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// From 1 to a million, in cents, evenly over the orders of magnitude.
    fn price(&mut self) -> u64 {
        let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        (10f64.powf(unit * 6.0) * 100.0).round() as u64
    }

    fn person(&mut self, event: u64) -> u64 {
        let persons = last_person(event) + 1;
        let active = persons.min(ACTIVE_PERSONS);
        persons - active + self.below(active + LEAD)
    }

    fn auction(&mut self, event: u64) -> u64 {
        let last = last_auction(event);
        let first = last.saturating_sub(IN_FLIGHT);
        first + self.below(last - first + 1 + LEAD)
    }

    fn letters(&mut self, length: usize) -> String {
        let mut text = String::with_capacity(length);
        while text.len() < length {
            let mut bits = self.next();
            for _ in 0..12.min(length - text.len()) {
                text.push(char::from(b'a' + (bits % 26) as u8));
                bits /= 26;
            }
        }
        text
    }

    /// What brings a row of `size` bytes near the average, give or take a fifth.
    fn extra(&mut self, size: usize, average: usize) -> String {
        let wanted = average.saturating_sub(size);
        let spread = wanted / 5;
        let length = wanted - spread + self.below(2 * spread as u64 + 1) as usize;
        self.letters(length)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Number,
    Text,
    Time,
}

enum Column {
    Number(Int64Builder),
    Text(StringBuilder),
    Time(TimestampMillisecondBuilder),
}

struct Columns(Vec<Column>);

impl Columns {
    fn new(kinds: &[Kind]) -> Self {
        Self(
            kinds
                .iter()
                .map(|kind| match kind {
                    Kind::Number => Column::Number(Int64Builder::new()),
                    Kind::Text => Column::Text(StringBuilder::new()),
                    Kind::Time => Column::Time(TimestampMillisecondBuilder::new()),
                })
                .collect(),
        )
    }

    fn number(&mut self, column: usize, value: u64) {
        if let Column::Number(builder) = &mut self.0[column] {
            builder.append_value(value as i64);
        }
    }

    fn text(&mut self, column: usize, value: &str) {
        if let Column::Text(builder) = &mut self.0[column] {
            builder.append_value(value);
        }
    }

    fn time(&mut self, column: usize, value: u64) {
        if let Column::Time(builder) = &mut self.0[column] {
            builder.append_value(value as i64);
        }
    }

    /// Fails when a column was left out of some row, or written as another kind.
    fn finish(self, names: &[&str]) -> RecordBatch {
        let (mut fields, mut columns): (Vec<Field>, Vec<ArrayRef>) = (vec![], vec![]);
        for (column, name) in self.0.into_iter().zip(names) {
            let (data_type, array): (DataType, ArrayRef) = match column {
                Column::Number(mut builder) => (DataType::Int64, Arc::new(builder.finish())),
                Column::Text(mut builder) => (DataType::Utf8, Arc::new(builder.finish())),
                Column::Time(mut builder) => {
                    (DataType::Timestamp(TimeUnit::Millisecond, None), Arc::new(builder.finish()))
                }
            };
            fields.push(Field::new(*name, data_type, false));
            columns.push(array);
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        RecordBatch::try_new(schema, columns).expect("every column has a value in every row")
    }
}
