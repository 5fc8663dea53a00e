//! Thrift structures without their classes: fields by their numbers.
//!
//! A table comes from a metastore and goes back to it with one parameter changed. Whatever else it has, in fields that a newer server has
//! and nobody here knows, must go back as it came; generated classes would leave it out.

use std::io::{Read, Write};
use thrift::protocol::{
    TBinaryInputProtocol, TBinaryOutputProtocol, TFieldIdentifier, TInputProtocol, TListIdentifier, TMapIdentifier,
    TMessageIdentifier, TMessageType, TOutputProtocol, TSetIdentifier, TStructIdentifier, TType,
};
use thrift::transport::{TBufferedReadTransport, TBufferedWriteTransport};

/// Structures in structures, at most.
const MAX_DEPTH: usize = 32;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    I8(i8),
    I16(i16),
    I32(i32),
    I64(i64),
    Double(f64),
    /// Text, too.
    Bytes(Vec<u8>),
    Struct(Fields),
    List(TType, Vec<Value>),
    Set(TType, Vec<Value>),
    Map(TType, TType, Vec<(Value, Value)>),
}

/// Fields of a structure, in the order that they came in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fields(Vec<(i16, Value)>);

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }

    pub(super) fn list_of(values: Vec<Fields>) -> Self {
        Self::List(TType::Struct, values.into_iter().map(Self::Struct).collect())
    }

    pub(super) fn map_of<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (Self::text(key), Self::text(value)));
        Self::Map(TType::String, TType::String, entries.collect())
    }

    fn of_type(&self) -> TType {
        match self {
            Self::Bool(_) => TType::Bool,
            Self::I8(_) => TType::I08,
            Self::I16(_) => TType::I16,
            Self::I32(_) => TType::I32,
            Self::I64(_) => TType::I64,
            Self::Double(_) => TType::Double,
            Self::Bytes(_) => TType::String,
            Self::Struct(_) => TType::Struct,
            Self::List(..) => TType::List,
            Self::Set(..) => TType::Set,
            Self::Map(..) => TType::Map,
        }
    }

    fn as_text(&self) -> Option<&str> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    fn read(from: &mut dyn TInputProtocol, of: TType, depth: usize) -> thrift::Result<Self> {
        let Some(below) = depth.checked_sub(1) else { return Err("structures are nested too deeply".into()) };
        Ok(match of {
            TType::Bool => Self::Bool(from.read_bool()?),
            TType::I08 => Self::I8(from.read_i8()?),
            TType::I16 => Self::I16(from.read_i16()?),
            TType::I32 => Self::I32(from.read_i32()?),
            TType::I64 => Self::I64(from.read_i64()?),
            TType::Double => Self::Double(from.read_double()?),
            TType::String | TType::Utf7 => Self::Bytes(from.read_bytes()?),
            TType::Struct => Self::Struct(Fields::read(from, below)?),
            TType::List => {
                let list = from.read_list_begin()?;
                let values = many(list.size, || Self::read(from, list.element_type, below))?;
                from.read_list_end()?;
                Self::List(list.element_type, values)
            }
            TType::Set => {
                let set = from.read_set_begin()?;
                let values = many(set.size, || Self::read(from, set.element_type, below))?;
                from.read_set_end()?;
                Self::Set(set.element_type, values)
            }
            TType::Map => {
                let map = from.read_map_begin()?;
                // An empty one has no types.
                let key_type = map.key_type.unwrap_or(TType::String);
                let value_type = map.value_type.unwrap_or(TType::String);
                let values =
                    many(map.size, || Ok((Self::read(from, key_type, below)?, Self::read(from, value_type, below)?)))?;
                from.read_map_end()?;
                Self::Map(key_type, value_type, values)
            }
            other => return Err(format!("a value of an unknown type ({other})").into()),
        })
    }

    fn write(&self, to: &mut dyn TOutputProtocol) -> thrift::Result<()> {
        let count = |length: usize| i32::try_from(length).map_err(|_| thrift::Error::from("too many values"));
        match self {
            Self::Bool(value) => to.write_bool(*value),
            Self::I8(value) => to.write_i8(*value),
            Self::I16(value) => to.write_i16(*value),
            Self::I32(value) => to.write_i32(*value),
            Self::I64(value) => to.write_i64(*value),
            Self::Double(value) => to.write_double(*value),
            Self::Bytes(value) => to.write_bytes(value),
            Self::Struct(fields) => fields.write(to),
            Self::List(of, values) => {
                to.write_list_begin(&TListIdentifier::new(*of, count(values.len())?))?;
                values.iter().try_for_each(|value| value.write(to))?;
                to.write_list_end()
            }
            Self::Set(of, values) => {
                to.write_set_begin(&TSetIdentifier::new(*of, count(values.len())?))?;
                values.iter().try_for_each(|value| value.write(to))?;
                to.write_set_end()
            }
            Self::Map(key_type, value_type, values) => {
                to.write_map_begin(&TMapIdentifier::new(*key_type, *value_type, count(values.len())?))?;
                values.iter().try_for_each(|(key, value)| key.write(to).and_then(|()| value.write(to)))?;
                to.write_map_end()
            }
        }
    }
}

/// What was announced is not trusted with memory before it is there.
fn many<T>(size: i32, mut one: impl FnMut() -> thrift::Result<T>) -> thrift::Result<Vec<T>> {
    (0..size).map(|_| one()).collect()
}

impl Fields {
    pub(super) fn of(fields: impl IntoIterator<Item = (i16, Value)>) -> Self {
        Self(fields.into_iter().collect())
    }

    pub(super) fn get(&self, id: i16) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == id).map(|(_, value)| value)
    }

    pub(super) fn text(&self, id: i16) -> Option<&str> {
        self.get(id)?.as_text()
    }

    pub(super) fn fields(&self, id: i16) -> Option<&Self> {
        match self.get(id)? {
            Value::Struct(fields) => Some(fields),
            _ => None,
        }
    }

    /// Sets a field of the structure that a field is; of an empty one, when there is none.
    pub(super) fn set_within(&mut self, id: i16, inner: i16, value: Value) {
        let mut within = self.fields(id).cloned().unwrap_or_default();
        within.set(inner, value);
        self.set(id, Value::Struct(within));
    }

    /// An entry of a field that maps texts to texts.
    pub(super) fn entry(&self, id: i16, key: &str) -> Option<&str> {
        match self.get(id)? {
            Value::Map(_, _, entries) => {
                entries.iter().find(|(known, _)| known.as_text() == Some(key)).and_then(|(_, value)| value.as_text())
            }
            _ => None,
        }
    }

    pub(super) fn set(&mut self, id: i16, value: Value) {
        self.0.retain(|(known, _)| *known != id);
        self.0.push((id, value));
    }

    pub(super) fn set_entry(&mut self, id: i16, key: &str, value: &str) {
        let mut entries = match self.get(id) {
            Some(Value::Map(_, _, entries)) => entries.clone(),
            _ => vec![],
        };
        entries.retain(|(known, _)| known.as_text() != Some(key));
        entries.push((Value::text(key), Value::text(value)));
        self.set(id, Value::Map(TType::String, TType::String, entries));
    }

    fn read(from: &mut dyn TInputProtocol, depth: usize) -> thrift::Result<Self> {
        let mut fields = vec![];
        from.read_struct_begin()?;
        loop {
            let field = from.read_field_begin()?;
            if field.field_type == TType::Stop {
                break;
            }
            let id = field.id.ok_or_else(|| thrift::Error::from("a field without a number"))?;
            fields.push((id, Value::read(from, field.field_type, depth)?));
            from.read_field_end()?;
        }
        from.read_struct_end()?;
        Ok(Self(fields))
    }

    fn write(&self, to: &mut dyn TOutputProtocol) -> thrift::Result<()> {
        to.write_struct_begin(&TStructIdentifier::new(""))?;
        for (id, value) in &self.0 {
            to.write_field_begin(&TFieldIdentifier::new("", value.of_type(), *id))?;
            value.write(to)?;
            to.write_field_end()?;
        }
        to.write_field_stop()?;
        to.write_struct_end()
    }
}

/// An answer: the fields of a method's result, of which number 0 is what it returns and the others are its exceptions; or a message of
/// the server, when the method cannot be called.
pub(super) type Called = Result<Fields, String>;

/// Calls a method.
///
/// # Errors
/// When there is no answer, or it is none.
pub(super) fn call<C: Read + Write>(
    reading: &mut TBinaryInputProtocol<TBufferedReadTransport<C>>,
    writing: &mut TBinaryOutputProtocol<TBufferedWriteTransport<C>>,
    method: &str,
    arguments: &Fields,
) -> thrift::Result<Called> {
    writing.write_message_begin(&TMessageIdentifier::new(method, TMessageType::Call, 0))?;
    arguments.write(writing)?;
    writing.write_message_end()?;
    writing.flush()?;
    let message = reading.read_message_begin()?;
    if message.name != method {
        return Err(format!("the answer is for {}, not {method}", message.name).into());
    }
    let called = match message.message_type {
        TMessageType::Reply => Ok(Fields::read(reading, MAX_DEPTH)?),
        _ => Err(thrift::Error::read_application_error_from_in_protocol(reading)?.message),
    };
    reading.read_message_end()?;
    Ok(called)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_as_it_was() {
        let column = Fields::of([(1, Value::text("n")), (2, Value::text("int"))]);
        let mut table = Fields::of([
            (1, Value::text("t")),
            (4, Value::I32(7)),
            (7, Value::Struct(Fields::of([(1, Value::list_of(vec![column])), (5, Value::Bool(true))]))),
            (9, Value::map_of([("a", "b")])),
            // What no one here knows.
            (101, Value::Set(TType::I64, vec![Value::I64(1), Value::I64(-1)])),
            (102, Value::Double(0.5)),
            (103, Value::Bytes(vec![0xff, 0])),
        ]);
        table.set_entry(9, "c", "d");
        table.set_within(7, 2, Value::text("s3://b/t"));
        let mut bytes = vec![];
        table.write(&mut TBinaryOutputProtocol::new(&mut bytes, true)).unwrap();
        let read = Fields::read(&mut TBinaryInputProtocol::new(bytes.as_slice(), true), MAX_DEPTH).unwrap();
        assert_eq!(read, table);
        assert_eq!((read.entry(9, "a"), read.entry(9, "c"), read.entry(9, "x")), (Some("b"), Some("d"), None));
        assert_eq!(read.fields(7).and_then(|descriptor| descriptor.text(2)), Some("s3://b/t"));
        // Cut off anywhere, it is an error and nothing worse.
        for length in 0..bytes.len() {
            assert!(Fields::read(&mut TBinaryInputProtocol::new(&bytes[..length], true), MAX_DEPTH).is_err());
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let mut fields = Fields::of([(1, Value::Bool(true))]);
        for _ in 0..MAX_DEPTH {
            fields = Fields::of([(1, Value::Struct(fields))]);
        }
        let mut bytes = vec![];
        fields.write(&mut TBinaryOutputProtocol::new(&mut bytes, true)).unwrap();
        assert!(Fields::read(&mut TBinaryInputProtocol::new(bytes.as_slice(), true), MAX_DEPTH).is_err());
    }
}
