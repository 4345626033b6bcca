//! The status document as text for a terminal, and the final summary, which is a part of it. Pure.

use std::fmt::Write as _;

use crate::model::LineCount;
use crate::observe::status::{EntryStatus, FilterStatus, LossStatus, Status, StreamStatus};
use crate::observe::text::{Paint, bytes, count, counted, duration_ms, rate, safe};

/// How the document is shown.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Colours.
    pub paint: Paint,
    /// Streams listed per entry; blocked ones come first.
    pub streams_max: usize,
}

/// The whole document. Ends with a newline.
pub fn render(status: &Status, look: Look) -> String {
    let mut text = head(status, look.paint);
    troubles(&mut text, status, look.paint);
    for entry in &status.entries {
        text.push('\n');
        entry_block(&mut text, status, entry, look);
    }
    if status.entries.len() > 1 {
        let _ = writeln!(text, "\n{}", look.paint.strong("all entries"));
        rates(&mut text, &status.total);
        equation(&mut text, &status.total.loss, look.paint);
    }
    text
}

/// What is said when an agent has stopped: where every line went. Ends with a newline.
pub fn summary(status: &Status, paint: Paint) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{} after {}", paint.strong("stopped"), duration_ms(status.uptime_ms));
    for entry in &status.entries {
        let _ = writeln!(text, "{}", paint.strong(&format!("entry {}", safe(&entry.name))));
        equation(&mut text, &entry.loss, paint);
        if let Some(error) = &entry.last_error {
            field(&mut text, "error", &paint.bad(&safe(&error.message)));
        }
    }
    let loss = &status.total.loss;
    if status.entries.len() > 1 {
        let _ = writeln!(text, "{}", paint.strong("all entries"));
        equation(&mut text, loss, paint);
    }
    let lost = match loss.unaccounted_lines {
        0 if loss.balanced && loss.lost_bytes > 0 => paint.bad(&gone(loss)),
        0 if loss.balanced => paint.good("0 lines lost"),
        _ => paint.bad(&unaccounted(loss)),
    };
    let pending = match loss.pending.lines {
        0 => String::new(),
        lines => format!(", {} pending: read again at the next start", counted(lines, "line")),
    };
    let _ = writeln!(text, "{lost}{pending}");
    text
}

/// One line about everything, for a service manager or a progress line.
pub fn one_line(status: &Status) -> String {
    let total = &status.total;
    format!(
        "{} in {}, {} lines/s, {} sent/s, lag {}",
        counted(total.streams, "file"),
        // "entry" has no plain plural.
        match status.entries.iter().filter(|entry| entry.in_plan).count() {
            1 => "1 entry".to_owned(),
            n => format!("{n} entries"),
        },
        rate(total.rates.read_lines),
        rate(total.rates.acked_records),
        bytes(total.lag_bytes),
    )
}

fn head(status: &Status, paint: Paint) -> String {
    let state = match (status.stopping, status.ready) {
        (true, _) => paint.warn("stopping"),
        (false, true) => paint.good("ready"),
        (false, false) => paint.bad("not ready"),
    };
    let plan = status.plan.as_ref().map_or("no plan yet".to_owned(), |plan| format!("plan {}", plan.revision));
    format!(
        "{}: {state}, {plan}, up {}, tailmill {}\n",
        paint.strong(&safe(&status.node)),
        duration_ms(status.uptime_ms),
        status.version
    )
}

fn troubles(text: &mut String, status: &Status, paint: Paint) {
    for reason in &status.not_ready {
        field(text, &paint.bad("trouble"), &safe(reason));
    }
    for health in status.health.iter().filter(|health| !health.ok && health.part == "etcd") {
        let message = health.message.as_deref().unwrap_or("no answer");
        field(text, &paint.warn("etcd"), &format!("{} (the last plan stays in force)", safe(message)));
    }
    for problem in &status.file_problems {
        let line = format!("{} (entry {}): {}", safe(&problem.path), safe(&problem.entry), safe(&problem.message));
        field(text, &paint.warn("skipped"), &line);
    }
    if status.file_problems_unlisted > 0 {
        let more = counted(status.file_problems_unlisted, "more file");
        field(text, &paint.warn("skipped"), &more);
    }
    for notice in &status.notices {
        field(text, "note", &format!("{} ago: {}", ago(status, notice.at_ms), safe(&notice.message)));
    }
}

fn entry_block(text: &mut String, status: &Status, entry: &EntryStatus, look: Look) {
    let to = if entry.in_plan { format!(" → {}", safe(&entry.topic)) } else { " (removed)".to_owned() };
    let cluster = match entry.cluster.as_str() {
        "" | "default" => String::new(),
        name => format!(" on {}", safe(name)),
    };
    let _ = writeln!(text, "{}{to}{cluster}", look.paint.strong(&safe(&entry.name)));
    rates(text, entry);
    let mut lag = bytes(entry.lag_bytes);
    if entry.lag_ms > 0 {
        let _ = write!(lag, ", {}", duration_ms(entry.lag_ms));
    }
    field(text, "lag", &lag);
    equation(text, &entry.loss, look.paint);
    for filter in &entry.filters {
        field(text, "filter", &filter_line(filter, look.paint));
    }
    streams(text, status, entry, look);
    if let Some(error) = &entry.last_error {
        field(text, &look.paint.bad("error"), &format!("{} ago: {}", ago(status, error.at_ms), safe(&error.message)));
    }
}

fn rates(text: &mut String, entry: &EntryStatus) {
    let rates = &entry.rates;
    let line = format!(
        "{} lines/s read ({}/s), {} records/s acknowledged ({}/s)",
        rate(rates.read_lines),
        bytes(rates.read_bytes as u64),
        rate(rates.acked_records),
        bytes(rates.acked_bytes as u64)
    );
    field(text, "rate", &line);
}

/// Both sides of the loss equation, in lines and in bytes. Terms that are zero and rare are left out.
fn equation(text: &mut String, loss: &LossStatus, paint: Paint) {
    field(text, "lines", &format!("{}{}", terms(loss, |n| count(n.lines)), verdict(loss, paint)));
    field(text, "bytes", &terms(loss, |n| bytes(n.bytes)));
    if loss.lost_bytes > 0 {
        field(text, "lost", &paint.bad(&gone(loss)));
    }
}

fn gone(loss: &LossStatus) -> String {
    format!("{} lost: of files that were nowhere any more before they were shipped", bytes(loss.lost_bytes))
}

fn terms(loss: &LossStatus, show: impl Fn(LineCount) -> String) -> String {
    let mut line =
        format!("{} read = {} delivered + {} filtered", show(loss.read), show(loss.delivered), show(loss.filtered));
    for (reason, lines) in &loss.dropped {
        let _ = write!(line, " + {} dropped ({reason})", show(*lines));
    }
    if !loss.rewound.is_zero() {
        let _ = write!(line, " + {} read again", show(loss.rewound));
    }
    let _ = write!(line, " + {} pending", show(loss.pending));
    line
}

fn verdict(loss: &LossStatus, paint: Paint) -> String {
    if loss.balanced { paint.good("  balanced") } else { format!("  {}", paint.bad(&unaccounted(loss))) }
}

fn unaccounted(loss: &LossStatus) -> String {
    format!("NOT BALANCED: {:+} lines, {:+} bytes unaccounted for", loss.unaccounted_lines, loss.unaccounted_bytes)
}

fn filter_line(filter: &FilterStatus, paint: Paint) -> String {
    let digest = filter.digest.trim_start_matches("sha256:");
    let mut line = format!("{} {}", safe(&filter.name), paint.faint(&digest[..digest.len().min(12)]));
    let _ = write!(line, "  {} in", count(filter.lines_in));
    let outcomes = [
        ("kept", filter.kept),
        ("dropped", filter.dropped),
        ("written", filter.emitted),
        ("skipped", filter.skipped_by_needle),
    ];
    for (what, n) in outcomes.into_iter().filter(|(_, n)| *n > 0) {
        let _ = write!(line, ", {} {what}", count(n));
    }
    if let Some(ns) = filter.busy_ns.checked_div(filter.lines_in).filter(|ns| *ns > 0) {
        let _ = write!(line, ", {} ns a line", count(ns));
    }
    if filter.memory_peak_bytes > 0 {
        let _ = write!(line, ", {} memory", bytes(filter.memory_peak_bytes));
    }
    for (kind, n) in &filter.faults {
        let _ = write!(line, ", {}", paint.bad(&format!("{} × {kind}", count(*n))));
    }
    for (name, n) in &filter.counters {
        let _ = write!(line, ", {} = {}", safe(name), count(*n));
    }
    line
}

fn streams(text: &mut String, status: &Status, entry: &EntryStatus, look: Look) {
    let of_entry = || status.streams.iter().filter(|stream| stream.entry == entry.name);
    let mut listed: Vec<&StreamStatus> = of_entry().collect();
    listed.sort_by_key(|stream| match stream.state.as_str() {
        "blocked" => 0,
        "waiting" => 1,
        "working" => 2,
        _ => 3,
    });
    listed.truncate(look.streams_max);
    for stream in &listed {
        field(text, "file", &stream_line(stream, look.paint));
    }
    let more = entry.streams.saturating_sub(listed.len() as u64);
    if more > 0 {
        let mut line = if listed.is_empty() { counted(more, "file") } else { counted(more, "more file") };
        if entry.blocked_streams > 0 {
            let _ = write!(line, ", {} blocked in all", entry.blocked_streams);
        }
        field(text, "file", &line);
    }
}

fn stream_line(stream: &StreamStatus, paint: Paint) -> String {
    let place = if stream.mark == stream.size {
        format!("at its end ({})", bytes(stream.size))
    } else {
        format!("{} of {} shipped", bytes(stream.mark), bytes(stream.size))
    };
    let state = match (stream.state.as_str(), &stream.reason) {
        ("blocked", reason) => {
            let reason = reason.as_deref().unwrap_or_default();
            paint.bad(&format!(", blocked at byte {}: {}", stream.mark, safe(reason)))
        }
        ("waiting", reason) => paint.warn(&format!(", waiting: {}", safe(reason.as_deref().unwrap_or_default()))),
        _ => String::new(),
    };
    format!("{}  {place}{state}", safe(&stream.path))
}

fn ago(status: &Status, at_ms: i64) -> String {
    duration_ms(u64::try_from(status.now_ms.saturating_sub(at_ms)).unwrap_or(0) / 1000 * 1000)
}

fn field(text: &mut String, name: &str, value: &str) {
    // Names are padded by what is seen: a colour sequence takes no room.
    let seen = seen_len(name);
    let _ = writeln!(text, "  {name}{}  {value}", " ".repeat(8_usize.saturating_sub(seen)));
}

/// Characters of `text` that are seen on a terminal.
fn seen_len(text: &str) -> usize {
    let mut seen = 0;
    let mut inside = false;
    for c in text.chars() {
        match c {
            '\u{1b}' => inside = true,
            'm' if inside => inside = false,
            _ if !inside => seen += 1,
            _ => {}
        }
    }
    seen
}
