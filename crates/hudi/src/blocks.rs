//! Logs: blocks of rows, of keys that are deleted, and of commands.
//!
//! Hudi technical specification, "Log File Format".

use arrow::array::RecordBatch;
use arrow_avro::reader::ReaderBuilder;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::HashMap;

const MAGIC: &[u8] = b"#HUDI#";
/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 8192;

/// What a block holds.
#[derive(Debug)]
pub(crate) enum Content {
    Rows(Vec<RecordBatch>),
    Deletes(Vec<Delete>),
}

/// A key whose row is gone.
#[derive(Debug, PartialEq)]
pub(crate) struct Delete {
    pub(crate) key: String,
    /// What it is ordered by; nothing where it goes whatever came before.
    pub(crate) ordering: Option<ScalarValue>,
}

/// A block as it lies in the log.
pub(crate) struct Block {
    kind: u32,
    header: HashMap<u32, String>,
    content: Bytes,
}

const INSTANT_TIME: u32 = 0;
const TARGET_INSTANT: u32 = 1;
const SCHEMA: u32 = 2;
const IS_PARTIAL: u32 = 7;

type Read<T> = Result<T, String>;

struct Cursor(Bytes);

impl Cursor {
    fn take(&mut self, length: usize) -> Read<Bytes> {
        if length > self.0.len() {
            return Err("it is cut off".into());
        }
        Ok(self.0.split_to(length))
    }

    fn u32(&mut self) -> Read<u32> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn length(&mut self) -> Read<usize> {
        let bytes = self.take(8)?;
        let number = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        usize::try_from(number).map_err(|error| error.to_string())
    }

    fn small(&mut self) -> Read<usize> {
        usize::try_from(self.u32()?).map_err(|error| error.to_string())
    }

    /// Avro, "Binary Encoding": a number in pieces of seven bits.
    fn zigzag(&mut self) -> Read<i64> {
        let (mut number, mut shift) = (0_u64, 0);
        loop {
            let byte = self.take(1)?.first().copied().unwrap_or_default();
            number |= u64::from(byte & 0x7f).checked_shl(shift).ok_or("a number that is too long")?;
            if byte & 0x80 == 0 {
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
            shift += 7;
        }
    }

    fn bytes(&mut self) -> Read<Bytes> {
        let length = usize::try_from(self.zigzag()?).map_err(|error| error.to_string())?;
        self.take(length)
    }

    fn text(&mut self) -> Read<String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|error| error.to_string())
    }
}

/// The blocks of a log, in their order. A last one that its writer did not finish is left out.
///
/// # Errors
/// With what is wrong with the log.
pub(crate) fn blocks(bytes: Bytes) -> Read<Vec<Block>> {
    let mut cursor = Cursor(bytes);
    let mut all = vec![];
    while !cursor.0.is_empty() {
        match framed(&mut cursor) {
            Ok(inside) => all.push(block(inside)?),
            // A writer died: its next one begins a block behind it.
            Err(_) if next_magic(&cursor.0).is_none() => break,
            Err(_) => {
                let skip = next_magic(&cursor.0).unwrap_or_default();
                cursor.take(skip)?;
            }
        }
    }
    Ok(all)
}

fn next_magic(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MAGIC.len()).position(|window| window == MAGIC)
}

/// A block that its writer finished.
fn framed(cursor: &mut Cursor) -> Read<Cursor> {
    if cursor.take(MAGIC.len())? != MAGIC {
        return Err("a block that begins with something else".into());
    }
    let size = cursor.length()?;
    if size > cursor.0.len() {
        return Err("it is cut off".into());
    }
    if next_magic(cursor.0.get(size..).unwrap_or_default()) != Some(0) && cursor.0.len() != size {
        return Err("a block that is followed by something else".into());
    }
    Ok(Cursor(cursor.take(size)?))
}

fn block(mut inside: Cursor) -> Read<Block> {
    let version = inside.u32()?;
    if version != 1 {
        return Err(format!("version {version} of the log format"));
    }
    let kind = inside.u32()?;
    let mut header = HashMap::new();
    for _ in 0..inside.u32()? {
        let key = inside.u32()?;
        let length = inside.small()?;
        header.insert(key, String::from_utf8_lossy(&inside.take(length)?).into_owned());
    }
    let length = inside.length()?;
    let content = inside.take(length)?;
    Ok(Block { kind, header, content })
}

impl Block {
    /// The time of the instant that wrote it.
    pub(crate) fn instant(&self) -> Option<&str> {
        self.header.get(&INSTANT_TIME).map(String::as_str)
    }

    /// The instant whose blocks before this one count no more, if it says so.
    pub(crate) fn undoes(&self) -> Option<i64> {
        let target = self.header.get(&TARGET_INSTANT).filter(|_| self.kind == 0);
        target.map(|time| crate::timeline::version_of(time))
    }

    /// # Errors
    /// For what is not known, and what is damaged.
    pub(crate) fn content(&self) -> Read<Option<Content>> {
        if self.header.get(&IS_PARTIAL).is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return Err("rows of some columns alone (partial updates), which are not read here".into());
        }
        match self.kind {
            1 => self.deletes().map(Content::Deletes).map(Some),
            3 => self.avro().map(Content::Rows).map(Some),
            5 => self.parquet().map(Content::Rows).map(Some),
            0 | 2 | 6 => Ok(None),
            4 => Err("rows in HFile, which are not read here".into()),
            other => Err(format!("a block of the unknown kind {other}")),
        }
    }

    fn parquet(&self) -> Read<Vec<RecordBatch>> {
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(self.content.clone()).map_err(|error| error.to_string())?;
        let reader = reader.with_batch_size(BATCH_ROWS).build().map_err(|error| error.to_string())?;
        reader.collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    /// Records one after the other, each with its length before it: put into one block of an Avro file, they are decoded into
    /// columns as such a file is.
    fn avro(&self) -> Read<Vec<RecordBatch>> {
        let schema = self.header.get(&SCHEMA).ok_or("rows without a schema")?;
        let mut cursor = Cursor(self.content.clone());
        let version = cursor.u32()?;
        if version > 3 {
            return Err(format!("rows in version {version} of their format"));
        }
        let count = cursor.u32()?;
        let mut records = Vec::with_capacity(self.content.len());
        for _ in 0..count {
            let length = cursor.small()?;
            records.extend(cursor.take(length)?);
        }
        let file = avro_file(schema, i64::from(count), &records);
        let reader = ReaderBuilder::new().with_batch_size(BATCH_ROWS).build(std::io::Cursor::new(file));
        let reader = reader.map_err(|error| error.to_string())?;
        reader.collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    /// `HoodieDeleteRecordList`, in Avro.
    fn deletes(&self) -> Read<Vec<Delete>> {
        let mut cursor = Cursor(self.content.clone());
        let version = cursor.u32()?;
        if version != 3 {
            return Err(format!("keys that are deleted, in version {version} of their format"));
        }
        let length = cursor.small()?;
        let mut cursor = Cursor(cursor.take(length)?);
        let mut deletes = vec![];
        loop {
            let count = match cursor.zigzag()? {
                0 => return Ok(deletes),
                count if count < 0 => {
                    cursor.zigzag()?;
                    count.unsigned_abs()
                }
                count => count.unsigned_abs(),
            };
            for _ in 0..count {
                let key = optional_text(&mut cursor)?.unwrap_or_default();
                optional_text(&mut cursor)?;
                deletes.push(Delete { key, ordering: ordering(&mut cursor)? });
            }
        }
    }
}

fn optional_text(cursor: &mut Cursor) -> Read<Option<String>> {
    match cursor.zigzag()? {
        0 => Ok(None),
        _ => cursor.text().map(Some),
    }
}

/// `HoodieDeleteRecord.orderingVal`: a union of wrappers, each a record of one value.
fn ordering(cursor: &mut Cursor) -> Read<Option<ScalarValue>> {
    let bits = |bytes: Bytes| bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let narrow = |number: i64| i32::try_from(number).map_err(|error| error.to_string());
    Ok(Some(match cursor.zigzag()? {
        0 => return Ok(None),
        1 => ScalarValue::Boolean(Some(cursor.take(1)?.first() == Some(&1))),
        2 => match narrow(cursor.zigzag()?)? {
            // What Hudi writes where there is nothing to order by.
            0 => return Ok(None),
            number => ScalarValue::Int32(Some(number)),
        },
        3 => ScalarValue::Int64(Some(cursor.zigzag()?)),
        4 => ScalarValue::Float32(Some(f32::from_bits(u32::try_from(bits(cursor.take(4)?)).unwrap_or_default()))),
        5 => ScalarValue::Float64(Some(f64::from_bits(bits(cursor.take(8)?)))),
        6 => ScalarValue::Binary(Some(cursor.bytes()?.to_vec())),
        7 => ScalarValue::Utf8(Some(cursor.text()?)),
        8 => ScalarValue::Date32(Some(narrow(cursor.zigzag()?)?)),
        9 => {
            let bytes = cursor.bytes()?;
            let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
            let start = if negative { -1_i128 } else { 0 };
            let number = bytes.iter().fold(start, |number, byte| number << 8 | i128::from(*byte));
            ScalarValue::Decimal128(Some(number), 30, 15)
        }
        10 => ScalarValue::Time64Microsecond(Some(cursor.zigzag()?)),
        11 => ScalarValue::TimestampMicrosecond(Some(cursor.zigzag()?), None),
        other => return Err(format!("a value of the unknown kind {other} to order by")),
    }))
}

/// Avro, "Binary Encoding": in pieces of seven bits.
fn put_number(file: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest >= 0x80 {
        file.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    file.push(rest as u8);
}

fn put_bytes(file: &mut Vec<u8>, bytes: &[u8]) {
    put_number(file, i64::try_from(bytes.len()).unwrap_or(i64::MAX));
    file.extend(bytes);
}

/// A log of one block: the keys of a partition whose rows are gone, whatever they were ordered by.
///
/// # Errors
/// For more than the format can say.
pub(crate) fn deletes_log(instant: &str, schema: &str, partition: &str, keys: &[String]) -> Read<Vec<u8>> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|error| error.to_string());
    let mut list = vec![];
    put_number(&mut list, i64::try_from(keys.len()).map_err(|error| error.to_string())?);
    for key in keys {
        for text in [key.as_str(), partition] {
            put_number(&mut list, 1);
            put_bytes(&mut list, text.as_bytes());
        }
        // The whole number 0: not ordered.
        put_number(&mut list, 2);
        put_number(&mut list, 0);
    }
    if !keys.is_empty() {
        put_number(&mut list, 0);
    }
    let mut content = 3_u32.to_be_bytes().to_vec();
    content.extend(length(&list)?.to_be_bytes());
    content.extend(list);
    let mut inside = 1_u32.to_be_bytes().to_vec();
    inside.extend(1_u32.to_be_bytes());
    let header = [(INSTANT_TIME, instant), (SCHEMA, schema)];
    inside.extend(2_u32.to_be_bytes());
    for (key, value) in header {
        inside.extend(key.to_be_bytes());
        inside.extend(length(value.as_bytes())?.to_be_bytes());
        inside.extend(value.as_bytes());
    }
    inside.extend((content.len() as u64).to_be_bytes());
    inside.extend(content);
    // No footer.
    inside.extend(0_u32.to_be_bytes());
    let size = inside.len() as u64 + 8;
    let mut log = MAGIC.to_vec();
    log.extend(size.to_be_bytes());
    log.extend(inside);
    // For whoever reads it from its end.
    log.extend((size + MAGIC.len() as u64).to_be_bytes());
    Ok(log)
}

/// Avro, "Object Container Files".
pub(crate) fn avro_file(schema: &str, count: i64, records: &[u8]) -> Vec<u8> {
    const SYNC: [u8; 16] = *b"rivermere-blocks";
    let mut file = b"Obj\x01".to_vec();
    put_number(&mut file, 2);
    for (name, value) in [("avro.schema", schema), ("avro.codec", "null")] {
        put_bytes(&mut file, name.as_bytes());
        put_bytes(&mut file, value.as_bytes());
    }
    put_number(&mut file, 0);
    file.extend(SYNC);
    if count > 0 {
        put_number(&mut file, count);
        put_bytes(&mut file, records);
        file.extend(SYNC);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_deleted_are_read_back_and_what_is_cut_off_is_left_out() {
        let keys = ["a:1,b:zwölf".to_owned(), "2".to_owned()];
        let log = deletes_log("20260307162641811", "{}", "place=n", &keys).unwrap();
        let twice = [log.clone(), log.clone()].concat();
        for (bytes, count) in [(twice.clone(), 2), (twice[..twice.len() - 3].to_vec(), 1), (log[..20].to_vec(), 0)] {
            let found = blocks(Bytes::from(bytes)).unwrap();
            assert_eq!(found.len(), count);
            for block in found {
                assert_eq!(block.instant(), Some("20260307162641811"));
                let Some(Content::Deletes(deletes)) = block.content().unwrap() else { panic!("they are deletes") };
                let wanted = keys.clone().map(|key| Delete { key, ordering: None });
                assert_eq!(deletes, wanted);
            }
        }
        // A block that its writer did not finish, and one behind it.
        let torn = [&log[..log.len() / 2], &log].concat();
        assert_eq!(blocks(Bytes::from(torn)).unwrap().len(), 1);
        let end = u64::from_be_bytes(log[log.len() - 8..].try_into().unwrap());
        assert_eq!(end, log.len() as u64 - 8);
    }
}
