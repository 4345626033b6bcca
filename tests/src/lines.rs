//! Log lines that look real and can be recognised wherever they arrive: each carries its writer, its number and a
//! checksum of itself as `tm1:WRITER:NUMBER:CHECKSUM`. The same (style, writer, number) always gives the same line.

use memchr::memmem;
use std::fmt::Write as _;
use xxhash_rust::xxh3::xxh3_64;

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A web server's access log; one in eight asks for `/healthz`.
    Access,
    /// One JSON object a line, with an e-mail address in some.
    Json,
    /// Syslog, one in ten an `ERROR`.
    Syslog,
    /// Java: an exception's head, then the frames of its stack, a line each.
    Java,
}

/// Who wrote a line, and which one of its lines it is.
pub type Tag = (u32, u64);

/// The line, without its terminator.
pub fn line(style: Style, writer: u32, number: u64) -> Vec<u8> {
    let mut text = String::with_capacity(256);
    let mut dice = Dice(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(writer));
    let tag = format!("tm1:{writer}:{number}:");
    let at = match style {
        Style::Access => access(&mut text, &mut dice, number, &tag),
        Style::Json => json(&mut text, &mut dice, number, &tag),
        Style::Syslog => syslog(&mut text, &mut dice, number, &tag),
        Style::Java => java(&mut text, &mut dice, number, &tag),
    };
    let checksum = format!("{:016x}", xxh3_64(text.as_bytes()));
    text.insert_str(at, &checksum);
    text.into_bytes()
}

/// Who wrote it, without looking at its checksum: for lines that a filter may have changed. The first tag counts.
pub fn tag(line: &[u8]) -> Option<Tag> {
    parse(line, 0).map(|(tag, _)| tag)
}

/// All tags in it, in order: a joined line has several.
pub fn tags(line: &[u8]) -> Vec<Tag> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some((tag, end)) = parse(line, from) {
        found.push(tag);
        from = end;
    }
    found
}

/// Who wrote it, if it is byte for byte what was written.
pub fn verified(line: &[u8]) -> Option<Tag> {
    let (tag, end) = parse(line, 0)?;
    let checksum = line.get(end..end + 16)?;
    let rest = [&line[..end], &line[end + 16..]].concat();
    (format!("{:016x}", xxh3_64(&rest)).as_bytes() == checksum).then_some(tag)
}

/// The first tag at or after `from`, and where its checksum begins.
fn parse(line: &[u8], from: usize) -> Option<(Tag, usize)> {
    let start = from + memmem::find(line.get(from..)?, b"tm1:")? + 4;
    let mut parts = line[start..].splitn(3, |byte| *byte == b':');
    let (writer, number) = (parts.next()?, parts.next()?);
    let parsed = (text(writer)?.parse().ok()?, text(number)?.parse().ok()?);
    Some((parsed, start + writer.len() + number.len() + 2))
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

const PATHS: [&str; 8] = [
    "/healthz",
    "/api/v1/orders",
    "/api/v1/orders/4711/items",
    "/static/js/app.4f3c2a.js",
    "/login",
    "/search",
    "/img/products/large/1283.webp",
    "/api/v1/customers",
];
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "curl/8.9.1",
    "Go-http-client/2.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X)",
];
const SAID: [&str; 5] = [
    "connection accepted from 10.1.4.7",
    "request finished without problems, closing the session now",
    "retrying after 250 ms because upstream said 503",
    "cache miss for key customer:4711, loading from the database",
    "user anna.schmidt@example.com changed her address",
];

// Each writes the text around the checksum and returns where the checksum belongs.

fn access(out: &mut String, dice: &mut Dice, number: u64, tag: &str) -> usize {
    let (a, b, path) = (dice.below(256), dice.below(256), PATHS[dice.below(8)]);
    write(out, format_args!("10.{a}.{b}.{} - - [{}] \"GET {path}?t={tag}", dice.below(256), clock(number)));
    let at = out.len();
    let (status, size) = ([200, 200, 200, 200, 304, 404, 500][dice.below(7)], dice.below(60_000));
    write(out, format_args!(" HTTP/1.1\" {status} {size} \"-\" \"{}\"", AGENTS[dice.below(4)]));
    at
}

fn json(out: &mut String, dice: &mut Dice, number: u64, tag: &str) -> usize {
    let level = ["debug", "info", "info", "info", "warn", "error"][dice.below(6)];
    write(out, format_args!("{{\"time\":\"{}\",\"level\":\"{level}\",\"id\":\"{tag}", clock(number)));
    let at = out.len();
    let (said, ms) = (SAID[dice.below(5)], dice.below(900));
    write(out, format_args!("\",\"service\":\"orders\",\"message\":\"{said}\",\"ms\":{ms}}}"));
    at
}

fn syslog(out: &mut String, dice: &mut Dice, number: u64, tag: &str) -> usize {
    let (pid, level) = (dice.below(30_000) + 300, if dice.below(10) == 0 { "ERROR" } else { "INFO" });
    write(out, format_args!("{} web-01 orderd[{pid}]: {level} [{tag}", clock(number)));
    let at = out.len();
    write(out, format_args!("] {}", SAID[dice.below(5)]));
    at
}

fn java(out: &mut String, dice: &mut Dice, number: u64, tag: &str) -> usize {
    if number.is_multiple_of(8) {
        write(out, format_args!("{} ERROR [http-nio-{}] c.e.orders.Service - {tag}", clock(number), dice.below(200)));
        let at = out.len();
        out.push_str(" java.lang.IllegalStateException: order is in no state to be shipped");
        return at;
    }
    let frame = ["orders.Service.ship", "orders.Controller.post", "web.Dispatcher.handle", "web.Filter.apply"];
    write(out, format_args!("\tat com.example.{}(Source.java:{}) ~[{tag}", frame[dice.below(4)], dice.below(900)));
    let at = out.len();
    out.push(']');
    at
}

fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string never fails");
}

/// A clock that goes on a millisecond a line. Not the real one: the same line is the same at any time.
fn clock(number: u64) -> String {
    let (seconds, ms) = (number / 1000, number % 1000);
    format!(
        "2026-11-{:02}T{:02}:{:02}:{:02}.{ms:03}Z",
        1 + seconds / 86_400 % 28,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLES: [Style; 4] = [Style::Access, Style::Json, Style::Syslog, Style::Java];

    #[test]
    fn every_line_is_recognised_and_has_no_terminator_in_it() {
        for style in STYLES {
            for number in [0, 1, 7, 8, 999_999] {
                let line = line(style, 3, number);
                assert_eq!(verified(&line), Some((3, number)), "{}", String::from_utf8_lossy(&line));
                assert_eq!(tags(&line), [(3, number)]);
                assert!(!line.contains(&b'\n'));
            }
        }
    }

    #[test]
    fn a_line_with_any_byte_changed_is_not_verified() {
        for style in STYLES {
            let good = line(style, 12, 345);
            for i in 0..good.len() {
                let mut bad = good.clone();
                bad[i] ^= 1;
                assert_eq!(verified(&bad), None, "byte {i}");
            }
            assert_eq!(verified(&good[..good.len() - 1]), None);
            assert_eq!(verified(&[&good[..], b" "].concat()), None);
        }
    }

    #[test]
    fn lines_are_as_long_as_real_ones() {
        let mean = |style| (0..1000).map(|n| line(style, 1, n).len()).sum::<usize>() / 1000;
        let all = STYLES.map(mean);
        assert!((100..=200).contains(&(all.iter().sum::<usize>() / 4)), "{all:?}");
    }
}
