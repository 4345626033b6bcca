//! Records to standard output, a line of live rates to standard error where that is a terminal.
//!
//! Into a pipe or file the bytes of a value go as they are; on a terminal what could be an escape sequence is made
//! visible.

use std::borrow::Cow;
use std::io::{BufWriter, IsTerminal, Result, Stdout, Write};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rdkafka::message::{Headers, Message};

use crate::observe::View;
use crate::observe::status::Status;
use crate::observe::status_text::one_line;
use crate::observe::text::Paint;

/// How often the rates change: faster cannot be read.
const RATES_EVERY: Duration = Duration::from_millis(500);

/// What is printed in front of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Show {
    /// Its topic
    Topic,
    /// Its partition
    Partition,
    /// Its offset
    Offset,
    /// Its key
    Key,
    /// Its headers
    Headers,
    /// Its time stamp, in milliseconds since 1970
    Time,
}

pub(super) struct Screen {
    out: BufWriter<Stdout>,
    line: Line,
    live: bool,
    drawn: bool,
    last_rates: Option<Instant>,
}

/// How a record is written.
struct Line {
    show: Vec<Show>,
    json: bool,
    paint: Paint,
    terminal: bool,
}

impl Screen {
    pub(super) fn new(show: &[Show], json: bool, quiet: bool) -> Screen {
        let stdout = std::io::stdout();
        let (terminal, paint) = (stdout.is_terminal(), Paint::for_stream(&stdout));
        Screen {
            out: BufWriter::with_capacity(64 << 10, stdout),
            line: Line { show: show.to_vec(), json, paint, terminal },
            live: !quiet && std::io::stderr().is_terminal(),
            drawn: false,
            last_rates: None,
        }
    }

    /// One record. An error: nobody reads any more.
    pub(super) fn record(&mut self, record: &impl Message) -> Result<()> {
        self.clear();
        self.line.write(record, &mut self.out)
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.out.flush()
    }

    /// Draws the rates when it is time to, or when records have pushed them away.
    pub(super) fn rates(&mut self, view: &View, now: Instant) {
        let fresh = self.last_rates.is_some_and(|last| now.saturating_duration_since(last) < RATES_EVERY);
        if !self.live || (fresh && self.drawn) {
            return;
        }
        let line = Paint::for_stream(&std::io::stderr()).faint(&one_line(&Status::of(view)));
        let _ = write!(std::io::stderr(), "\r\u{1b}[2K{line}");
        (self.drawn, self.last_rates) = (true, Some(now));
    }

    /// Takes the rates away, so that something else can be written.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(std::io::stderr(), "\r\u{1b}[2K");
        }
    }

    /// Something a person should know meanwhile.
    pub(super) fn aside(&mut self, message: &str) {
        self.clear();
        crate::cli::complain(message);
    }

    /// The last flush.
    pub(super) fn finish(&mut self) {
        self.clear();
        let _ = self.out.flush();
    }
}

impl Line {
    fn write(&self, record: &impl Message, out: &mut impl Write) -> Result<()> {
        if self.json {
            return writeln!(out, "{}", json(record));
        }
        if !self.show.is_empty() {
            let fields: Vec<String> = self.show.iter().map(|show| field(*show, record)).collect();
            write!(out, "{}  ", self.paint.faint(&fields.join(" ")))?;
        }
        let value = record.payload().unwrap_or_default();
        match self.terminal {
            true => out.write_all(visible(value).as_bytes())?,
            false => out.write_all(value)?,
        }
        out.write_all(b"\n")
    }
}

fn field(show: Show, record: &impl Message) -> String {
    match show {
        Show::Topic => record.topic().to_owned(),
        Show::Partition => record.partition().to_string(),
        Show::Offset => record.offset().to_string(),
        Show::Key => record.key().map_or("-".to_owned(), |key| visible(key).into_owned()),
        Show::Time => record.timestamp().to_millis().map_or("-".to_owned(), |ms| ms.to_string()),
        Show::Headers => {
            let all: Vec<String> = headers(record).map(|(name, value)| format!("{name}={value}")).collect();
            if all.is_empty() { "-".to_owned() } else { all.join(",") }
        }
    }
}

fn headers(record: &impl Message) -> impl Iterator<Item = (String, String)> {
    let headers = record.headers();
    let all = headers.map(|headers| {
        let text = |value: Option<&[u8]>| visible(value.unwrap_or_default()).into_owned();
        headers
            .iter()
            .map(|header| (visible(header.key.as_bytes()).into_owned(), text(header.value)))
            .collect::<Vec<_>>()
    });
    all.unwrap_or_default().into_iter()
}

fn json(record: &impl Message) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    serde_json::json!({
        "topic": record.topic(),
        "partition": record.partition(),
        "offset": record.offset(),
        "timestamp_ms": record.timestamp().to_millis(),
        "key": record.key().map(text),
        "headers": headers(record).collect::<std::collections::BTreeMap<_, _>>(),
        "value": record.payload().map(text),
    })
    .to_string()
}

/// Control characters but the tab, and what is not UTF-8, made visible.
fn visible(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    let harmless = |c: char| c == '\t' || !c.is_control();
    if text.chars().all(harmless) {
        return text;
    }
    let shown = text.chars().flat_map(|c| if harmless(c) { vec![c] } else { c.escape_default().collect() });
    Cow::Owned(shown.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::Timestamp;
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

    fn record(value: &[u8]) -> OwnedMessage {
        let headers = OwnedHeaders::new().insert(Header { key: "path", value: Some("/a\u{1b}b") });
        let (time, key) = (Timestamp::CreateTime(42), Some(b"k".to_vec()));
        OwnedMessage::new(Some(value.to_vec()), key, "dev".to_owned(), time, 3, 17, Some(headers))
    }

    fn check(show: &[Show], json: bool, terminal: bool, value: &[u8], expected: &[u8]) {
        let line = Line { show: show.to_vec(), json, paint: Paint(false), terminal };
        let mut out = Vec::new();
        line.write(&record(value), &mut out).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(expected));
    }

    #[test]
    fn a_value_is_printed_as_it_is_and_its_fields_in_the_order_asked() {
        check(&[], false, false, b"a line", b"a line\n");
        check(&[], false, false, b"", b"\n");
        check(&[Show::Topic, Show::Partition, Show::Offset], false, false, b"v", b"dev 3 17  v\n");
        check(&[Show::Key, Show::Time, Show::Headers], false, false, b"v", b"k 42 path=/a\\u{1b}b  v\n");
    }

    #[test]
    fn bytes_reach_a_file_untouched_and_a_terminal_harmless() {
        let evil = b"a\tb\x1b[31m\xff\r";
        check(&[], false, false, evil, b"a\tb\x1b[31m\xff\r\n");
        check(&[], false, true, evil, "a\tb\\u{1b}[31m\u{fffd}\\r\n".as_bytes());
    }

    #[test]
    fn json_is_one_object_a_line() {
        let line = Line { show: vec![], json: true, paint: Paint(false), terminal: true };
        let mut out = Vec::new();
        line.write(&record(b"a \"b\"\n"), &mut out).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!((&value["value"], &value["offset"], &value["key"]), (&"a \"b\"\n".into(), &17.into(), &"k".into()));
    }
}
