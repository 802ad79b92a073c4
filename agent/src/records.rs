//! What can't be counted is kept, or at least named: `rejects.ndjson` and `losses.ndjson` in the state directory.
//!
//! ```text
//! {"at", "code", "detail", "producer", "number", "file", "start", "end", "event"}      an event that was refused
//! {"at", "code", "detail", "file", "start", "end", "checksum", "resend_as"}            a line that is too long
//! {"at", "reason", "file", "start", "end", "batch", "events", "detail"}                bytes that are lost
//! {"at", "reason", "file", "from", "to", "lines", "bytes", "detail"}                   lines of stdin that were dropped
//! ```
//!
//! Invariants: one JSON object a line; a record is durable when [`Records::append`] returns. The same thing is not
//! noted twice when the agent dies between noting it and remembering so: what stood at the file's end at the start is
//! compared.
//!
//! Limits: at [`ROTATE_BYTES`] the file becomes `….1`, which overwrites the one before.

use serde_json::Value;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const ROTATE_BYTES: u64 = 64 << 20;

/// How much of the file's end is compared.
const RECENT_BYTES: u64 = 1 << 20;

/// One of the two files.
#[derive(Debug)]
pub(crate) struct Records {
    path: PathBuf,
    rotate_bytes: u64,
    recent: HashSet<String>,
}

impl Records {
    /// The file at `path`, which need not exist yet.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let recent = match File::open(&path) {
            Ok(file) => recent(&file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => HashSet::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, rotate_bytes: ROTATE_BYTES, recent })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends records, and makes them durable. Those that stood at the end of the file when it was opened are left
    /// out, once. All of them are kept, or (on an error) none.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(crate) fn append(&mut self, records: &[Value]) -> io::Result<()> {
        let new = records.iter().filter(|record| !self.recent.contains(&identity(record)));
        let mut text: Vec<u8> = Vec::new();
        for record in new {
            serde_json::to_writer(&mut text, record)?;
            text.push(b'\n');
        }
        if !text.is_empty() {
            self.write(&text)?;
        }
        for record in records {
            self.recent.remove(&identity(record));
        }
        Ok(())
    }

    fn write(&self, text: &[u8]) -> io::Result<()> {
        let open = || File::options().create(true).append(true).read(true).open(&self.path);
        let mut file = open()?;
        let mut len = file.metadata()?.len();
        if len > self.rotate_bytes {
            std::fs::rename(&self.path, self.path.with_extension("ndjson.1"))?;
            (file, len) = (open()?, 0);
        }
        let mut last = [b'\n'];
        if len > 0 {
            file.read_exact_at(&mut last, len - 1)?;
        }
        // A crash can leave half a record, which must not spoil the next one.
        let separator: &[u8] = if last == *b"\n" { b"" } else { b"\n" };
        let written =
            file.write_all(separator).and_then(|()| file.write_all(text)).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // Best effort: half a record is passed over by whoever reads it.
            drop(file.set_len(len));
            return Err(error);
        }
        if len == 0 {
            crate::journal::sync_directory(self.path.parent().unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }
}

fn recent(file: &File) -> io::Result<HashSet<String>> {
    Ok(at_the_end(file)?.iter().map(identity).collect())
}

/// The records at the file's end, within [`RECENT_BYTES`].
fn at_the_end(file: &File) -> io::Result<Vec<Value>> {
    let len = file.metadata()?.len();
    let from = len.saturating_sub(RECENT_BYTES);
    let mut bytes = vec![0; usize::try_from(len - from).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, from)?;
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

/// The last `count` records, the newest last; none where there is no file.
///
/// # Errors
/// When it can't be read.
pub(crate) fn last(path: &Path, count: usize) -> io::Result<Vec<Value>> {
    let mut records = match File::open(path) {
        Ok(file) => at_the_end(&file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(records.split_off(records.len().saturating_sub(count)))
}

/// What makes two records the same thing, whenever and in whatever words it was noted.
fn identity(record: &Value) -> String {
    let keys: &[&str] = if record.get("number").is_some() {
        &["producer", "number"]
    } else {
        &["reason", "file", "start", "end", "from", "batch", "checksum"]
    };
    let parts: String =
        keys.iter().filter_map(|key| record.get(key)).map(|value| format!("{value}\n")).collect();
    if parts.is_empty() { record.to_string() } else { parts }
}

/// A time as the records have it.
pub(crate) fn at(unix_ms: i64) -> Value {
    jiff::Timestamp::from_millisecond(unix_ms).map_or(Value::Null, |at| Value::String(at.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    #[test]
    fn the_same_thing_is_noted_once_across_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rejects.ndjson");
        let long = json!({"at": "1", "code": "too_long", "file": "a", "start": 1, "end": 9, "checksum": "x"});
        let event = json!({"at": "1", "code": "too_old", "producer": "p", "number": 3, "file": "a"});
        let mut records = Records::open(path.clone()).unwrap();
        records.append(&[long.clone(), event]).unwrap();
        records.append(std::slice::from_ref(&long)).unwrap();
        assert_eq!(lines(&path).len(), 3, "in one run the same place can really come again");

        let mut records = Records::open(path.clone()).unwrap();
        let again = json!({"at": "2", "code": "in_future", "producer": "p", "number": 3, "file": "a"});
        records.append(&[again, json!({"producer": "p", "number": 4})]).unwrap();
        assert_eq!(lines(&path).len(), 4);
        records.append(std::slice::from_ref(&long)).unwrap();
        assert_eq!(lines(&path).len(), 4);
        records.append(&[long]).unwrap();
        assert_eq!(lines(&path).len(), 5);
    }

    #[test]
    fn half_a_record_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("losses.ndjson");
        std::fs::write(&path, "{\"a\":1}\n{\"b\":").unwrap();
        Records::open(path.clone()).unwrap().append(&[json!({"c": 1})]).unwrap();
        assert_eq!(lines(&path), [json!({"a": 1}), json!({"c": 1})]);
    }

    #[test]
    fn a_large_file_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("losses.ndjson");
        let mut records = Records::open(path.clone()).unwrap();
        records.rotate_bytes = 10;
        for number in 0..3 {
            records.append(&[json!({"number": number})]).unwrap();
        }
        assert_eq!(lines(&path), [json!({"number": 2})]);
        assert_eq!(lines(&dir.path().join("losses.ndjson.1")), [json!({"number": 1})]);
        records.append(&[json!({"number": 3})]).unwrap();
        assert_eq!(last(&path, 1).unwrap(), [json!({"number": 3})]);
        assert_eq!(last(&path, 5).unwrap(), lines(&path));
        assert_eq!(last(&dir.path().join("none"), 5).unwrap(), Vec::<Value>::new());
    }
}
