//! Taking Redis' answers apart, without copying bodies.

use crate::entry::{EntryId, Fields, RawEntry};
use crate::error::QueueError;
use crate::keys::Shard;
use bytes::Bytes;
use redis::Value;

type Result<T> = std::result::Result<T, QueueError>;

fn unexpected(wanted: &str, value: &Value) -> QueueError {
    let kind = match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a string",
        Value::Array(_) => "an array",
        Value::ServerError(error) => return QueueError::Protocol(error.to_string()),
        _ => "something else",
    };
    QueueError::Protocol(format!("{wanted} was expected, not {kind}"))
}

pub(crate) fn array(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(unexpected("an array", &other)),
    }
}

/// What several calls together were answered, each for itself.
pub(crate) fn each(value: Value) -> Result<Vec<Result<Value>>> {
    let one = |value| match value {
        Value::ServerError(error) => Err(redis::RedisError::from(error).into()),
        answer => Ok(answer),
    };
    Ok(array(value)?.into_iter().map(one).collect())
}

/// An array of exactly so many.
pub(crate) fn tuple<const N: usize>(value: Value) -> Result<[Value; N]> {
    <[Value; N]>::try_from(array(value)?)
        .map_err(|got| QueueError::Protocol(format!("{N} values were expected, not {}", got.len())))
}

pub(crate) fn bytes(value: Value) -> Result<Bytes> {
    match value {
        Value::BulkString(bytes) => Ok(Bytes::from(bytes)),
        Value::SimpleString(text) => Ok(Bytes::from(text)),
        other => Err(unexpected("a string", &other)),
    }
}

pub(crate) fn text(value: Value) -> Result<String> {
    String::from_utf8(bytes(value)?.into())
        .map_err(|_| QueueError::Protocol("a text was expected, not other bytes".to_owned()))
}

pub(crate) fn number(value: &Value) -> Result<i64> {
    match value {
        Value::Int(number) => Ok(*number),
        other => Err(unexpected("a number", other)),
    }
}

/// A count, which a clamp at zero keeps a count whatever stands in Redis.
pub(crate) fn count(value: &Value) -> Result<u64> {
    number(value).map(|number| u64::try_from(number).unwrap_or(0))
}

/// The sum of what each shard counted, when all could be asked; what the others did is done all the same.
pub(crate) fn sum(answers: Vec<(Shard, Result<Value>)>) -> Result<u64> {
    answers.into_iter().map(|(_, answer)| count(&answer?)).sum()
}

pub(crate) fn optional_id(shard: Shard, value: Value) -> Result<Option<EntryId>> {
    match value {
        Value::Nil => Ok(None),
        other => Ok(Some(EntryId::of(shard, text(other)?))),
    }
}

fn fields(value: Value) -> Result<Fields> {
    let flat = array(value)?;
    let mut fields = Vec::with_capacity(flat.len() / 2);
    let mut flat = flat.into_iter();
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        fields.push((bytes(name)?, bytes(value)?));
    }
    Ok(fields)
}

fn entry(shard: Shard, id: Value, flat: Value) -> Result<RawEntry> {
    Ok(RawEntry { id: EntryId::of(shard, text(id)?), fields: fields(flat)? })
}

/// What XRANGE gives.
pub(crate) fn entries(shard: Shard, value: Value) -> Result<Vec<RawEntry>> {
    let one = |value| tuple(value).and_then(|[id, flat]| entry(shard, id, flat));
    array(value)?.into_iter().map(one).collect()
}

/// What XREADGROUP of one stream gives: nothing when the wait ended without an entry.
pub(crate) fn read(shard: Shard, value: Value) -> Result<Vec<RawEntry>> {
    let Value::Array(streams) = value else {
        return if value == Value::Nil { Ok(Vec::new()) } else { Err(unexpected("an array", &value)) };
    };
    let mut read = Vec::new();
    for stream in streams {
        let [_, of_it] = tuple(stream)?;
        read.append(&mut entries(shard, of_it)?);
    }
    Ok(read)
}

/// What the reclaim script gives: the next cursor, and entries with the number of their deliveries.
pub(crate) fn reclaimed(shard: Shard, value: Value) -> Result<(String, Vec<(RawEntry, u64)>)> {
    let [cursor, items] = tuple(value)?;
    let mut claimed = Vec::new();
    for item in array(items)? {
        let [id, flat, deliveries] = tuple(item)?;
        claimed.push((entry(shard, id, flat)?, count(&deliveries)?));
    }
    Ok((text(cursor)?, claimed))
}
