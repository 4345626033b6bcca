//! Records as JSON objects: `{"node":…,"path":…,"time":…,"message":…}`.
//!
//! One new buffer a set, nothing allocated per record. JSON is UTF-8: in path and message every run of bytes that is not
//! becomes U+FFFD, which loses what they were; an entry that ships other encodings uses `raw`.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tailmill_tail::Chunk;

use crate::model::{Extras, RecordSet};

/// The same records with their values in envelopes. `time` is the record's timestamp if a filter set one, else `now_ms`
/// (milliseconds since the Unix epoch), in RFC 3339, UTC. Keys, topics, timestamps and headers stay.
pub fn json_envelope(set: &RecordSet, node: &str, path: &Path, now_ms: i64) -> RecordSet {
    let mut before = b"{\"node\":\"".to_vec();
    escape(node.as_bytes(), &mut before);
    before.extend_from_slice(b"\",\"path\":\"");
    escape(path.as_os_str().as_bytes(), &mut before);
    before.extend_from_slice(b"\",\"time\":\"");
    let now = time_text(now_ms);
    let time = |i| set.extras.as_deref().and_then(|extras: &Extras| extras.timestamp_ms(i));

    let around = before.len() + now.len() + MESSAGE.len() + 2;
    let mut buffer = Vec::with_capacity(set.value_bytes() as usize + set.len() * (around + 8));
    let (mut starts, mut ends) = (Vec::with_capacity(set.len()), Vec::with_capacity(set.len()));
    for i in 0..set.len() {
        starts.push(buffer.len() as u32);
        buffer.extend_from_slice(&before);
        match time(i).filter(|time| *time != now_ms) {
            Some(time) => buffer.extend_from_slice(time_text(time).as_bytes()),
            None => buffer.extend_from_slice(now.as_bytes()),
        }
        buffer.extend_from_slice(MESSAGE);
        escape(set.value(i), &mut buffer);
        buffer.extend_from_slice(b"\"}");
        ends.push(buffer.len() as u32);
    }
    RecordSet { buffer: Chunk::new(buffer), starts, ends, sources: set.sources.clone(), extras: set.extras.clone() }
}

const MESSAGE: &[u8] = b"\",\"message\":\"";

/// Appends what these bytes are inside a JSON string.
fn escape(bytes: &[u8], into: &mut Vec<u8>) {
    match std::str::from_utf8(bytes) {
        Ok(_) => escape_utf8(bytes, into),
        Err(_) => {
            for part in bytes.utf8_chunks() {
                escape_utf8(part.valid().as_bytes(), into);
                if !part.invalid().is_empty() {
                    into.extend_from_slice("\u{fffd}".as_bytes());
                }
            }
        }
    }
}

fn escape_utf8(bytes: &[u8], into: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut copied = 0;
    for (place, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        into.extend_from_slice(&bytes[copied..place]);
        copied = place + 1;
        match *byte {
            b'"' | b'\\' => into.extend_from_slice(&[b'\\', *byte]),
            b'\n' => into.extend_from_slice(b"\\n"),
            b'\r' => into.extend_from_slice(b"\\r"),
            b'\t' => into.extend_from_slice(b"\\t"),
            other => {
                let digits = [HEX[usize::from(other >> 4)], HEX[usize::from(other & 15)]];
                into.extend_from_slice(b"\\u00");
                into.extend_from_slice(&digits);
            }
        }
    }
    into.extend_from_slice(&bytes[copied..]);
}

/// `2026-11-21T08:05:00.123Z` on the stack. A year outside 0–9999 has no such form: it is held to that range.
fn time_text(ms: i64) -> Fixed {
    const YEAR_0_MS: i64 = -62_167_219_200_000;
    const YEAR_9999_END_MS: i64 = 253_402_300_799_999;
    let ms = ms.clamp(YEAR_0_MS, YEAR_9999_END_MS);
    let (days, in_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1000 % 60);
    let mut text = Fixed::default();
    // 24 characters by the bounds above, and that is what there is room for.
    let _ = write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", in_day % 1000);
    text
}

/// Days since 1970-01-01 to year, month, day of the proleptic Gregorian calendar.
/// Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[derive(Default)]
struct Fixed {
    bytes: [u8; 24],
    len: usize,
}

impl Fixed {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn len(&self) -> usize {
        self.len
    }
}

impl Write for Fixed {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HOSTS_TIME;
    use std::ffi::OsStr;

    fn set(values: &[&[u8]], times: Vec<i64>) -> RecordSet {
        let (mut buffer, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for value in values {
            starts.push(buffer.len() as u32);
            buffer.extend_from_slice(value);
            ends.push(buffer.len() as u32);
            buffer.push(b'\n');
        }
        let extras = (!times.is_empty()).then(|| Box::new(Extras { timestamps_ms: times, ..Extras::default() }));
        RecordSet { buffer: Chunk::new(buffer), starts, ends, sources: vec![0; values.len()], extras }
    }

    #[test]
    fn every_value_comes_back_from_its_envelope() {
        let all: Vec<u8> = (0..=0x7f).collect();
        let values: [&[u8]; 6] =
            [b"", b"plain", b"say \"hi\" \\ \x01\x1f", "grüße 🦀".as_bytes(), b"a\xff\xfeb\xc3", &all];
        let path = Path::new(OsStr::from_bytes(b"/var/log/\xe4 \"x\".log"));
        let sent = json_envelope(&set(&values, vec![]), "web\"01", path, 1_795_248_300_123);
        assert_eq!(sent.len(), values.len());
        for (i, value) in values.iter().enumerate() {
            let read: serde_json::Value = serde_json::from_slice(sent.value(i)).expect("json");
            let expected = serde_json::json!({
                "node": "web\"01",
                "path": "/var/log/\u{fffd} \"x\".log",
                "time": "2026-11-21T08:05:00.123Z",
                "message": String::from_utf8_lossy(value),
            });
            assert_eq!(read, expected);
        }
        let keys: serde_json::Map<_, _> = serde_json::from_slice(sent.value(0)).unwrap();
        assert_eq!(keys.keys().collect::<Vec<_>>(), ["node", "path", "time", "message"]);
    }

    #[test]
    fn a_time_that_a_filter_set_goes_into_the_envelope() {
        let sent =
            json_envelope(&set(&[b"a", b"b", b"c"], vec![0, 951_782_400_001, HOSTS_TIME]), "n", Path::new("/p"), 5);
        let times: Vec<String> = (0..3)
            .map(|i| {
                serde_json::from_slice::<serde_json::Value>(sent.value(i)).unwrap()["time"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(times, ["1970-01-01T00:00:00.000Z", "2000-02-29T00:00:00.001Z", "1970-01-01T00:00:00.005Z"]);
    }

    #[test]
    fn times_at_the_edges_have_the_same_form() {
        for (ms, text) in [
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(std::str::from_utf8(time_text(ms).as_bytes()).unwrap(), text);
        }
    }
}
