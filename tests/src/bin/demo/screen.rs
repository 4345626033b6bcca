//! What the demo shows: headings, lines, tables. Colour on a terminal only.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

/// Longest line shown.
const WIDTH: usize = 116;

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

    /// A record: where it is in Kafka, then its value, with what filters put in shown.
    pub(crate) fn record(&self, topic: &str, partition: i32, offset: i64, value: &[u8]) {
        let place = format!("{topic}[{partition}]@{offset}");
        let text = String::from_utf8_lossy(value);
        let room = WIDTH - 2 - place.len() - 2;
        let mut shown: String = text.chars().take(room).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if text.chars().count() > room {
            shown.pop();
            shown.push('…');
        }
        for mark in ["[redacted]", "[email]"] {
            shown = shown.replace(mark, &self.paint("1;33", mark));
        }
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
