//! Log lines: from `tracing` to standard error, as text or as one JSON object a line. Colours only on a terminal.
//! Called once, by the outermost room; libraries below never log.

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::observe::text::Paint;

/// What is logged when nobody says otherwise. Libraries below us are asked for warnings only.
pub const DEFAULT_FILTER: &str = "warn,tailmill=info";

/// What a log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The filter makes no sense.
    #[error("log filter {filter:?}: {reason} (an example: info,tailmill::deliver=debug)")]
    Filter {
        /// As it was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody set it up before.
    #[error("logging is set up already")]
    Twice,
}

/// Checks a filter without setting anything up.
pub fn check_filter(filter: &str) -> Result<(), LogsError> {
    parse(filter).map(drop)
}

/// From now on everything that passes the filter (empty: [`DEFAULT_FILTER`]) goes to standard error.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogsError> {
    let paint = Paint::for_stream(&std::io::stderr());
    let subscriber = subscriber(format, parse(filter)?, paint, std::io::stderr);
    // try_init also takes what libraries say through the `log` crate (rdkafka does).
    subscriber.try_init().map_err(|_| LogsError::Twice)
}

fn parse(filter: &str) -> Result<EnvFilter, LogsError> {
    let filter = if filter.trim().is_empty() { DEFAULT_FILTER } else { filter };
    EnvFilter::try_new(filter)
        .map_err(|reason| LogsError::Filter { filter: filter.to_owned(), reason: reason.to_string() })
}

fn subscriber<W>(format: LogFormat, filter: EnvFilter, paint: Paint, to: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_writer(to).with_ansi(paint.0);
    match format {
        LogFormat::Text => Box::new(base.with_target(false).finish()),
        LogFormat::Json => Box::new(base.json().flatten_event(true).with_current_span(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, paint: Paint, work: impl FnOnce()) -> String {
        let sink = Sink::default();
        let to = sink.clone();
        let subscriber = subscriber(format, parse(filter).unwrap(), paint, move || to.clone());
        tracing::subscriber::with_default(subscriber, work);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_hold_message_level_and_fields_at_the_top() {
        let line = logged(LogFormat::Json, "", Paint(false), || {
            tracing::warn!(entry = "web", bytes = 7, "a \"quoted\" line\nbreak");
        });
        assert_eq!(line.lines().count(), 1, "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"], "a \"quoted\" line\nbreak");
        assert_eq!((&value["level"], &value["entry"], &value["bytes"]), (&"WARN".into(), &"web".into(), &7.into()));
        assert!(value["timestamp"].is_string());
    }

    #[test]
    fn text_lines_are_coloured_only_when_asked() {
        let work = || tracing::info!(entry = "web", "started");
        let plain = logged(LogFormat::Text, "", Paint(false), work);
        assert!(plain.contains("INFO started entry=\"web\"") && !plain.contains('\u{1b}'), "{plain}");
        assert!(logged(LogFormat::Text, "", Paint(true), work).contains('\u{1b}'));
    }

    #[test]
    fn the_filter_decides_by_level_and_room() {
        let work = || {
            tracing::debug!(target: "tailmill::deliver", "ours");
            tracing::info!(target: "other", "theirs");
        };
        assert_eq!(logged(LogFormat::Text, "", Paint(false), work), "");
        let all = logged(LogFormat::Text, "warn,tailmill::deliver=debug", Paint(false), work);
        assert!(all.contains("ours") && !all.contains("theirs"), "{all}");
    }

    #[test]
    fn a_bad_filter_is_named_with_an_example() {
        let error = check_filter("tailmill=loud").unwrap_err().to_string();
        assert!(error.starts_with("log filter \"tailmill=loud\": ") && error.contains("example"), "{error}");
        check_filter("").unwrap();
    }
}
