//! What the demo shows: headings, lines, tables. Colour on a terminal only.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;
use tailmill_tests::topic::Record;

/// Longest line shown.
const WIDTH: usize = 116;

/// What `redact` writes in place of an e-mail address.
pub(crate) const REDACTED: &str = "[email]";

/// Where the demo is shown.
pub(crate) struct Screen {
    colour: bool,
    begun: Instant,
}

impl Screen {
    pub(crate) fn new() -> Screen {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Screen { colour, begun: Instant::now() }
    }

    /// A step of the demo, with the seconds since its start.
    pub(crate) fn step(&self, text: &str) {
        let at = format!("[{:>4.1} s]", self.begun.elapsed().as_secs_f64());
        self.out(&format!("\n{} {}", self.paint("2", &at), self.paint("1;36", text)));
    }

    pub(crate) fn say(&self, text: &str) {
        self.out(&format!("  {text}"));
    }

    pub(crate) fn good(&self, text: &str) {
        self.out(&format!("  {}", self.paint("32", text)));
    }

    /// A record: where it is in Kafka, then its value, cut so that what a filter put in stays visible.
    pub(crate) fn record(&self, record: &Record, topic: &str) {
        let place = format!("{topic}[{}]@{}", record.partition, record.offset);
        let text = String::from_utf8_lossy(record.bytes());
        let shown = fit(&text, WIDTH - 4 - place.len()).replace(REDACTED, &self.paint("1;33", REDACTED));
        self.out(&format!("  {}  {shown}", self.paint("2", &place)));
    }

    /// Rows of a name and numbers under their headings.
    pub(crate) fn table(&self, headings: &[&str], rows: &[(String, Vec<u64>)]) {
        let mut head = format!("  {:<26}", "");
        headings.iter().for_each(|heading| head += &format!("{heading:>13}"));
        self.out(&self.paint("2", &head));
        for (name, numbers) in rows {
            let mut line = format!("  {name:<26}");
            numbers.iter().for_each(|number| line += &format!("{:>13}", thousands(*number)));
            self.out(&line);
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn out(&self, line: &str) {
        // Whoever closed the pipe does not want to see more; the demo goes on to its end.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// The text in at most so many characters: its beginning and, where there is one, the place that was redacted.
fn fit(text: &str, room: usize) -> String {
    let characters: Vec<char> = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if characters.len() <= room {
        return characters.into_iter().collect();
    }
    let redacted = text.find(REDACTED).map(|at| text[..at].chars().count() + REDACTED.len() + 12);
    let end = redacted.unwrap_or(0).clamp(room - 1, characters.len());
    let (head, tail) = if end < room { (room - 1, 0) } else { (room / 3, room - room / 3 - 2) };
    let mut shown: String = characters[..head].iter().collect();
    shown.push('…');
    if tail > 0 {
        shown.extend(&characters[end - tail..end]);
        shown.push_str(if end < characters.len() { "…" } else { "" });
    }
    shown
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_so_that_the_redacted_place_is_seen() {
        let check = |text: &str, room: usize, expected: &str| assert_eq!(fit(text, room), expected);
        check("short", 10, "short");
        check("0123456789abc", 10, "012345678…");
        let long = format!("{}{REDACTED}{}", "a".repeat(50), "b".repeat(50));
        let shown = fit(&long, 40);
        assert!(shown.contains(REDACTED) && shown.chars().count() <= 40, "{shown}");
    }
}
