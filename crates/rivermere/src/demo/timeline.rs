//! The year as it was told: three sequences of records, cut into slices of time.
//!
//! Each sequence is always the same, so a record's number in it says where to go on. Flights are read a batch at a time
//! and an arrival waits, as two numbers, in the batch it was read with until it is told; no more than a day of flights is
//! ever held.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMillisecondType};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use rivermere_format::{Encoder, FormatError, JsonEncoder};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Rows read at once: about two days of flights.
const BATCH_ROWS: usize = 2_048;

/// The longest time from an arrival until it is told; `sql/10_topics.sql` has a watermark that covers it.
const SLOWEST_REPORT_MS: u64 = 12 * 60_000;

/// The columns of a record, in their order.
const DEPARTURE: &[&str] = &[
    "flight_id",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "distance",
    "sched_dep",
    "departed_at",
    "dep_delay",
];
const ARRIVAL: &[&str] = &["flight_id", "carrier", "flight", "origin", "dest", "arrived_at", "arr_delay", "air_time"];

/// One of the three sequences, each a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// Every flight: when it left, or was to leave if it was cancelled.
    Departures,
    /// Every flight that reached a gate, in the order in which that was told.
    Arrivals,
    /// Every hour of every airport.
    Weather,
}

impl Sequence {
    pub const ALL: [Self; 3] = [Self::Departures, Self::Arrivals, Self::Weather];

    /// The topic's name.
    pub fn topic(self) -> &'static str {
        match self {
            Self::Departures => "departures",
            Self::Arrivals => "arrivals",
            Self::Weather => "weather",
        }
    }

    /// Records of the whole year.
    pub fn records(self) -> u64 {
        match self {
            Self::Departures => 336_776,
            Self::Arrivals => 328_063,
            Self::Weather => 26_115,
        }
    }
}

/// Why the data of the demo cannot be read; it is part of the program, so this is a defect of the build.
#[derive(Debug, thiserror::Error)]
pub enum TimelineError {
    #[error("RM-7201: the demo's data cannot be read: {0}")]
    Parquet(#[from] ParquetError),
    #[error("RM-7201: the demo's data cannot be read: {0}")]
    Arrow(#[from] ArrowError),
    #[error("RM-7201: the demo's data cannot be written as JSON: {0}")]
    Format(#[from] FormatError),
    #[error("RM-7201: the demo's data lacks column '{0}' in the type that was expected")]
    Column(&'static str),
}

/// Records of one sequence, one after the other.
#[derive(Debug, Default)]
pub struct Part {
    /// The first one's number in the sequence.
    pub first: u64,
    /// Their values, as JSON.
    pub values: Vec<Bytes>,
}

/// Everything that was told in one span of time.
#[derive(Debug)]
pub struct Slice {
    /// Milliseconds of New York's wall clock, read as if it were UTC.
    pub start_ms: i64,
    /// Exclusive.
    pub until_ms: i64,
    pub departures: Part,
    pub arrivals: Part,
    pub weather: Part,
}

impl Slice {
    fn is_empty(&self) -> bool {
        [&self.departures, &self.arrivals, &self.weather].iter().all(|part| part.values.is_empty())
    }
}

/// The slices of the year that are still to be told.
#[derive(Debug)]
pub struct Timeline {
    flights: Flights,
    weather: Weather,
    departures: Teller,
    arrivals: Teller,
    observations: Teller,
    now_ms: i64,
    span_ms: i64,
}

impl Timeline {
    /// Everything from the given numbers on (departures, arrivals, weather), in slices of `span_ms`. The data are whole
    /// Parquet files.
    ///
    /// # Errors
    /// When the data are not those of the demo.
    pub fn new(flights: Bytes, weather: Bytes, from: [u64; 3], span_ms: i64) -> Result<Self, TimelineError> {
        let mut flights = Flights::open(flights)?;
        let mut weather = Weather::open(weather)?;
        let first = flights.next_moment()?.unwrap_or(i64::MAX).min(weather.next_moment()?.unwrap_or(i64::MAX));
        let span_ms = span_ms.max(1);
        Ok(Self {
            departures: Teller::new(from[0]),
            arrivals: Teller::new(from[1]),
            observations: Teller::new(from[2]),
            flights,
            weather,
            now_ms: first.div_euclid(span_ms).saturating_mul(span_ms),
            span_ms,
        })
    }

    /// The next slice that has records; nothing when the year is over.
    ///
    /// # Errors
    /// When the data cannot be read.
    pub fn next_slice(&mut self) -> Result<Option<Slice>, TimelineError> {
        while !(self.flights.is_over()? && self.weather.next_moment()?.is_none()) {
            let start_ms = self.now_ms;
            let until_ms = start_ms.saturating_add(self.span_ms);
            self.now_ms = until_ms;
            let departures = self.flights.departures(until_ms, &mut self.departures)?;
            let arrivals = self.flights.arrivals(until_ms, &mut self.arrivals)?;
            let weather = self.weather.until(until_ms, &mut self.observations)?;
            let slice = Slice { start_ms, until_ms, departures, arrivals, weather };
            if !slice.is_empty() {
                return Ok(Some(slice));
            }
        }
        Ok(None)
    }
}

/// Numbers records, and writes those that are wanted.
#[derive(Debug)]
struct Teller {
    next: u64,
    from: u64,
    encoder: Option<JsonEncoder>,
}

impl Teller {
    fn new(from: u64) -> Self {
        Self { next: 0, from, encoder: None }
    }

    /// How many of the next `rows` rows were told before.
    fn skip(&mut self, rows: usize) -> usize {
        let before = self.from.saturating_sub(self.next);
        let skipped = usize::try_from(before).unwrap_or(usize::MAX).min(rows);
        self.next += skipped as u64;
        skipped
    }

    fn tell(&mut self, batch: &RecordBatch, part: &mut Part) -> Result<(), TimelineError> {
        let skipped = self.skip(batch.num_rows());
        let batch = batch.slice(skipped, batch.num_rows() - skipped);
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if part.values.is_empty() {
            part.first = self.next;
        }
        self.next += batch.num_rows() as u64;
        let encoder = self.encoder.get_or_insert_with(|| JsonEncoder::new(batch.schema()));
        part.values.extend(encoder.encode(&batch)?);
        Ok(())
    }
}

/// Flights in the order in which they left, and those that are under way.
#[derive(Debug)]
struct Flights {
    reader: ParquetRecordBatchReader,
    /// The batch that is being read is the last.
    held: VecDeque<Held>,
    /// Number of the first batch that is held.
    first_held: usize,
    /// Row of the last batch that leaves next.
    row: usize,
    /// When an arrival is told, its flight (which decides ties), its batch and row there.
    under_way: BinaryHeap<Reverse<(i64, i64, usize, usize)>>,
}

#[derive(Debug)]
struct Held {
    departures: RecordBatch,
    arrivals: RecordBatch,
    flight_ids: Vec<i64>,
    /// When each row leaves.
    moments: Vec<i64>,
    arrived: Vec<Option<i64>>,
    under_way: usize,
}

impl Flights {
    fn open(data: Bytes) -> Result<Self, TimelineError> {
        let reader = read(data, BATCH_ROWS)?;
        Ok(Self { reader, held: VecDeque::new(), first_held: 0, row: 0, under_way: BinaryHeap::new() })
    }

    /// The batch with the next row, read if need be.
    fn current(&mut self) -> Result<Option<&mut Held>, TimelineError> {
        while self.held.back().is_none_or(|held| self.row >= held.moments.len()) {
            let Some(batch) = self.reader.next() else { return Ok(None) };
            self.held.push_back(Held::new(&batch?)?);
            self.row = 0;
        }
        while self.held.len() > 1 && self.held.front().is_some_and(|held| held.under_way == 0) {
            self.held.pop_front();
            self.first_held += 1;
        }
        Ok(self.held.back_mut())
    }

    fn next_moment(&mut self) -> Result<Option<i64>, TimelineError> {
        let row = self.row;
        // Reading on may begin another batch.
        let read_on = self.held.back().is_none_or(|held| row >= held.moments.len());
        let row = if read_on { 0 } else { row };
        Ok(self.current()?.and_then(|held| held.moments.get(row).copied()))
    }

    fn is_over(&mut self) -> Result<bool, TimelineError> {
        Ok(self.under_way.is_empty() && self.next_moment()?.is_none())
    }

    fn departures(&mut self, until_ms: i64, teller: &mut Teller) -> Result<Part, TimelineError> {
        let mut part = Part::default();
        while self.next_moment()?.is_some_and(|moment| moment < until_ms) {
            let (row, number) = (self.row, self.first_held + self.held.len() - 1);
            let Some(held) = self.held.back_mut() else { break };
            let rows = held.moments.iter().skip(row).take_while(|moment| **moment < until_ms).count();
            teller.tell(&held.departures.slice(row, rows), &mut part)?;
            let flights = held.flight_ids.iter().zip(&held.arrived).enumerate().skip(row).take(rows);
            for (row, (flight_id, arrived)) in flights {
                if let Some(arrived) = arrived {
                    held.under_way += 1;
                    self.under_way.push(Reverse((arrived + report_delay_ms(*flight_id), *flight_id, number, row)));
                }
            }
            self.row = row + rows;
        }
        Ok(part)
    }

    fn arrivals(&mut self, until_ms: i64, teller: &mut Teller) -> Result<Part, TimelineError> {
        let mut part = Part::default();
        let mut places = vec![];
        while let Some(Reverse((told, _, number, row))) = self.under_way.peek().copied()
            && told < until_ms
        {
            self.under_way.pop();
            places.push((number - self.first_held, row));
        }
        if places.is_empty() {
            return Ok(part);
        }
        for (held, _) in &places {
            if let Some(held) = self.held.get_mut(*held) {
                held.under_way -= 1;
            }
        }
        let skipped = teller.skip(places.len());
        if let Some(places) = places.get(skipped..).filter(|places| !places.is_empty()) {
            let batches: Vec<&RecordBatch> = self.held.iter().map(|held| &held.arrivals).collect();
            teller.tell(&interleave_record_batch(&batches, places)?, &mut part)?;
        }
        Ok(part)
    }
}

impl Held {
    fn new(batch: &RecordBatch) -> Result<Self, TimelineError> {
        let (departed, scheduled) = (times(batch, "departed_at")?, times(batch, "sched_dep")?);
        let moments = departed.iter().zip(&scheduled).filter_map(|(departed, scheduled)| departed.or(*scheduled));
        let moments: Vec<i64> = moments.collect();
        let ids = column(batch, "flight_id")?;
        let ids = ids.as_primitive_opt::<Int64Type>().ok_or(TimelineError::Column("flight_id"))?;
        if moments.len() != batch.num_rows() {
            return Err(TimelineError::Column("sched_dep"));
        }
        Ok(Self {
            departures: project(batch, DEPARTURE)?,
            arrivals: project(batch, ARRIVAL)?,
            flight_ids: ids.values().to_vec(),
            arrived: times(batch, "arrived_at")?,
            moments,
            under_way: 0,
        })
    }
}

/// Most arrivals are told within a few minutes, the slowest after twelve: the smaller of two numbers that the flight's
/// own number decides.
fn report_delay_ms(flight_id: i64) -> i64 {
    // SplitMix64: https://prng.di.unimi.it/splitmix64.c
    let mut mixed = (flight_id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    let range = SLOWEST_REPORT_MS + 1;
    ((mixed >> 32) % range).min((mixed & 0xFFFF_FFFF) % range) as i64
}

/// The weather in order of time, as it is in its file.
#[derive(Debug)]
struct Weather {
    reader: ParquetRecordBatchReader,
    batch: Option<(RecordBatch, Vec<Option<i64>>)>,
    row: usize,
}

impl Weather {
    fn open(data: Bytes) -> Result<Self, TimelineError> {
        Ok(Self { reader: read(data, BATCH_ROWS)?, batch: None, row: 0 })
    }

    fn next_moment(&mut self) -> Result<Option<i64>, TimelineError> {
        while self.batch.as_ref().is_none_or(|(batch, _)| self.row >= batch.num_rows()) {
            let Some(batch) = self.reader.next() else { return Ok(None) };
            let batch = batch?;
            let moments = times(&batch, "time_hour")?;
            self.batch = Some((batch, moments));
            self.row = 0;
        }
        Ok(self.batch.as_ref().and_then(|(_, moments)| moments.get(self.row).copied().flatten()))
    }

    fn until(&mut self, until_ms: i64, teller: &mut Teller) -> Result<Part, TimelineError> {
        let mut part = Part::default();
        while self.next_moment()?.is_some_and(|moment| moment < until_ms) {
            let Some((batch, moments)) = &self.batch else { break };
            let due = |moment: &&Option<i64>| moment.is_some_and(|moment| moment < until_ms);
            let rows = moments.iter().skip(self.row).take_while(due).count();
            teller.tell(&batch.slice(self.row, rows), &mut part)?;
            self.row += rows;
        }
        Ok(part)
    }
}

fn read(data: Bytes, batch_rows: usize) -> Result<ParquetRecordBatchReader, TimelineError> {
    Ok(ParquetRecordBatchReaderBuilder::try_new(data)?.with_batch_size(batch_rows).build()?)
}

fn column<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<&'a ArrayRef, TimelineError> {
    batch.column_by_name(name).ok_or(TimelineError::Column(name))
}

fn times(batch: &RecordBatch, name: &'static str) -> Result<Vec<Option<i64>>, TimelineError> {
    let column = column(batch, name)?;
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, None) => {
            Ok(column.as_primitive::<TimestampMillisecondType>().iter().collect())
        }
        _ => Err(TimelineError::Column(name)),
    }
}

fn project(batch: &RecordBatch, names: &[&'static str]) -> Result<RecordBatch, TimelineError> {
    let schema = batch.schema();
    let index = |name: &&'static str| schema.index_of(name).map_err(|_| TimelineError::Column(name));
    Ok(batch.project(&names.iter().map(index).collect::<Result<Vec<_>, _>>()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::template::Template;
    use serde_json::Value;

    const HOUR_MS: i64 = 3_600_000;

    fn slices(from: [u64; 3], span_ms: i64) -> Vec<Slice> {
        let data = |name| Bytes::from_static(Template::Flights.file(name));
        let (flights, weather) = (data("data/flights.parquet"), data("data/weather.parquet"));
        let mut timeline = Timeline::new(flights, weather, from, span_ms).unwrap();
        let mut slices = vec![];
        while let Some(slice) = timeline.next_slice().unwrap() {
            slices.push(slice);
        }
        slices
    }

    /// Values of one sequence, with their numbers checked.
    fn values<'a>(slices: &'a [Slice], part: impl Fn(&'a Slice) -> &'a Part, from: u64) -> Vec<&'a [u8]> {
        let mut all: Vec<&[u8]> = vec![];
        for part in slices.iter().map(part).filter(|part| !part.values.is_empty()) {
            assert_eq!(part.first, from + all.len() as u64);
            all.extend(part.values.iter().map(|value| &value[..]));
        }
        all
    }

    #[test]
    fn all_flights_and_all_weather_are_told_once() {
        let slices = slices([0; 3], 7 * HOUR_MS);
        let count = |values: Vec<&[u8]>| values.len() as u64;
        assert_eq!(count(values(&slices, |slice| &slice.departures, 0)), Sequence::Departures.records());
        assert_eq!(count(values(&slices, |slice| &slice.arrivals, 0)), Sequence::Arrivals.records());
        assert_eq!(count(values(&slices, |slice| &slice.weather, 0)), Sequence::Weather.records());
    }

    #[test]
    fn the_sequences_do_not_depend_on_how_they_are_cut_or_where_they_begin() {
        let whole = slices([0; 3], 50 * HOUR_MS);
        let from = [100_000, 99_000, 7_000];
        let rest = slices(from, 997_000);
        let same = |part: fn(&Slice) -> &Part, from: u64| {
            let (whole, rest) = (values(&whole, part, 0), values(&rest, part, from));
            assert!(whole[from as usize..] == rest[..], "from {from}");
        };
        same(|slice| &slice.departures, from[0]);
        same(|slice| &slice.arrivals, from[1]);
        same(|slice| &slice.weather, from[2]);
    }

    #[test]
    fn arrivals_come_after_their_departures_and_a_little_out_of_order() {
        let slices = slices([0; 3], 20 * 60_000);
        let time = |value: &Value, name: &str| {
            let text = value[name].as_str().unwrap();
            chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").unwrap()
        };
        let mut left = std::collections::HashSet::new();
        let (mut newest, mut furthest_back) = (chrono::NaiveDateTime::MIN, chrono::TimeDelta::zero());
        let mut cancelled = 0;
        for slice in &slices {
            let arrivals: Vec<Value> =
                slice.arrivals.values.iter().map(|value| serde_json::from_slice(value).unwrap()).collect();
            // What left in the same slice is not there yet.
            for arrival in &arrivals {
                assert!(left.remove(&arrival["flight_id"].as_i64().unwrap()), "{arrival}");
                let arrived = time(arrival, "arrived_at");
                furthest_back = furthest_back.max(newest.max(arrived) - arrived);
                newest = newest.max(arrived);
            }
            for departure in &slice.departures.values {
                let departure: Value = serde_json::from_slice(departure).unwrap();
                assert!(left.insert(departure["flight_id"].as_i64().unwrap()));
                cancelled += i32::from(departure["departed_at"].is_null());
            }
        }
        assert_eq!(cancelled, 8_255);
        assert_eq!(left.len(), 8_255 + 458, "cancelled, or never at a gate");
        assert!(furthest_back > chrono::TimeDelta::minutes(5), "{furthest_back}");
        assert!(furthest_back <= chrono::TimeDelta::milliseconds(SLOWEST_REPORT_MS as i64), "{furthest_back}");
    }
}
