//! Source of v1-batch.wasm: every feature of the batch world, by the first letter of a line. Never built again; it is here to
//! be read beside the test.

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "stateful-batch-filter" });
    export!(Frozen with_types_in self);
    use super::Frozen;
}

use bindings::exports::tailmill::filter::{batch, finish, state, ticks};
use bindings::tailmill::filter::types::{Answer, Column, Fault, Header, Lines, Outcome, Output, Released, Traits};
use bindings::tailmill::filter::{host, origin};
use std::cell::RefCell;

struct Frozen;

#[derive(Default)]
struct State {
    config: String,
    /// Lines seen.
    seen: u64,
    /// Number of the next line.
    next: u64,
    held: Vec<(u64, String)>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Rows of an output. Columns are there when some row has a value.
#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
}

#[derive(Default)]
struct Row {
    text: String,
    source: u64,
    key: Option<String>,
    topic: u16,
    timestamp_ms: Option<i64>,
    part: Option<String>,
}

impl Rows {
    fn add(&mut self, source: u64, text: &str) -> &mut Row {
        self.rows.push(Row { text: text.to_string(), source, ..Row::default() });
        self.rows.last_mut().unwrap()
    }

    fn output(self) -> Output {
        let (mut data, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for row in &self.rows {
            starts.extend((data.len() as u32).to_le_bytes());
            data.extend(row.text.as_bytes());
            ends.extend((data.len() as u32).to_le_bytes());
            data.push(b'\n');
        }
        let rows = &self.rows;
        let keys = column(rows.iter().map(|row| row.key.as_deref()));
        let parts = column(rows.iter().map(|row| row.part.as_deref()));
        Output {
            lines: Lines { data, starts, ends },
            source: rows.iter().flat_map(|row| row.source.to_le_bytes()).collect(),
            keys,
            topics: match rows.iter().any(|row| row.topic != 0) {
                true => rows.iter().flat_map(|row| row.topic.to_le_bytes()).collect(),
                false => Vec::new(),
            },
            timestamps_ms: match rows.iter().any(|row| row.timestamp_ms.is_some()) {
                true => rows.iter().flat_map(|row| row.timestamp_ms.unwrap_or(i64::MIN).to_le_bytes()).collect(),
                false => Vec::new(),
            },
            headers: parts.into_iter().map(|values| Header { name: "part".to_string(), values }).collect(),
        }
    }
}

/// `None`: no row has a value. All present: no bits.
fn column<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Option<Column> {
    let (mut present, mut data, mut ends, mut rows, mut found) = (Vec::new(), Vec::new(), Vec::new(), 0, 0);
    for value in values {
        present.resize(rows / 8 + 1, 0u8);
        if let Some(value) = value {
            present[rows / 8] |= 1 << (rows % 8);
            data.extend(value.as_bytes());
            found += 1;
        }
        ends.extend((data.len() as u32).to_le_bytes());
        rows += 1;
    }
    if found == rows {
        present.clear();
    }
    (found > 0).then_some(Column { present, data, ends })
}

impl batch::Guest for Frozen {
    fn start(config: Vec<u8>) -> Result<Traits, Vec<u8>> {
        let config = String::from_utf8_lossy(&config).into_owned();
        if config.contains("refuse") {
            return Err(format!("refused: {config}").into_bytes());
        }
        let stateless = config.contains("stateless");
        let needles = if stateless { vec![b"needle".to_vec(), b"pin".to_vec()] } else { Vec::new() };
        let keep_skipped = config.contains("keep_skipped");
        STATE.with_borrow_mut(|state| state.config = config);
        Ok(Traits { stateless, needles, keep_skipped })
    }

    fn run(first: u64, lines: Lines) -> Result<Answer, Fault> {
        STATE.with_borrow_mut(|state| state.run(first, &lines))
    }
}

fn u32_at(packed: &[u8], at: usize) -> usize {
    u32::from_le_bytes(packed[at * 4..][..4].try_into().unwrap()) as usize
}

impl State {
    fn run(&mut self, first: u64, lines: &Lines) -> Result<Answer, Fault> {
        let count = lines.ends.len() / 4;
        let (mut rows, mut mask, mut rewrites) = (Rows::default(), vec![0u8; count.div_ceil(8)], false);
        for at in 0..count {
            let line = &lines.data[u32_at(&lines.starts, at)..u32_at(&lines.ends, at)];
            let line = String::from_utf8_lossy(line).into_owned();
            let number = first + at as u64;
            self.seen += 1;
            self.next = number + 1;
            match line.as_bytes().first() {
                Some(b'd') => {}
                Some(b'e') => {
                    rewrites = true;
                    emit(&mut rows, number, &line[1..]);
                }
                Some(b'h') => {
                    rewrites = true;
                    self.held.push((number, line));
                }
                Some(b'r') => {
                    rewrites = true;
                    let source = self.held.first().map_or(number, |(held, _)| *held);
                    let held: String = self.held.drain(..).map(|(_, text)| text + "+").collect();
                    rows.add(source, &(held + &line));
                }
                Some(b'o') => {
                    rewrites = true;
                    rows.add(number, &about_origin());
                }
                Some(b'f') => {
                    let named = line.starts_with("fault").then_some(number);
                    return Err(Fault { line: named, message: line.into_bytes() });
                }
                Some(b't') => panic!("told to"),
                verb => {
                    if verb == Some(&b's') {
                        say(&line, self.seen);
                    }
                    mask[at / 8] |= 1 << (at % 8);
                    rows.add(number, &line);
                }
            }
        }
        let kept: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
        let outcome = match kept as usize {
            _ if rewrites => Outcome::Emit(rows.output()),
            0 => Outcome::DropAll,
            kept if kept == count => Outcome::KeepAll,
            _ => Outcome::Keep(mask),
        };
        Ok(Answer { outcome, oldest_held: self.oldest_held() })
    }

    fn oldest_held(&self) -> Option<u64> {
        self.held.first().map(|(number, _)| *number)
    }

    fn release(&mut self, why: &str) -> Result<Released, Fault> {
        let mut rows = Rows::default();
        for (number, text) in self.held.drain(..) {
            let row = rows.add(number, &format!("{why}:{text}"));
            row.key = Some(why.to_string());
        }
        if rows.rows.is_empty() && self.next > 0 {
            rows.add(self.next - 1, &format!("{why}:{} seen", self.seen));
        }
        Ok(Released { output: (!rows.rows.is_empty()).then(|| rows.output()), oldest_held: None })
    }
}

/// `a,b,c`: a line each, from this one. The second has a key, the third a topic, the fourth a time, the fifth a header.
fn emit(rows: &mut Rows, number: u64, texts: &str) {
    for (at, text) in texts.split(',').enumerate() {
        let row = rows.add(number, text);
        match at {
            1 => row.key = Some(format!("key of {text}")),
            2 => row.topic = 1,
            3 => row.timestamp_ms = Some(1_700_000_000_000 + at as i64),
            4 => row.part = Some(at.to_string()),
            _ => {}
        }
    }
}

fn about_origin() -> String {
    let (path, now) = (origin::path(), host::now());
    let path = String::from_utf8_lossy(&path).into_owned();
    let clock = if now > 1_600_000_000_000_000_000 && now == host::now() { "clock stands" } else { "clock runs" };
    let topics = origin::topics().join("+");
    format!("{} {} {path} {} {topics} {clock}", origin::stream_id(), origin::node(), origin::first_offset())
}

fn say(line: &str, seen: u64) {
    host::log(2, line.as_bytes());
    host::print(1, b"to stdout\nand ");
    host::print(1, b"more\n");
    host::print(2, b"to stderr\n");
    host::count("frozen.seen", seen);
}

impl ticks::Guest for Frozen {
    fn every_ms() -> u32 {
        STATE.with_borrow(|state| if state.config.contains("ticking") { 250 } else { 0 })
    }

    fn tick() -> Result<Released, Fault> {
        STATE.with_borrow_mut(|state| state.release("tick"))
    }
}

impl finish::Guest for Frozen {
    fn flush() -> Result<Released, Fault> {
        STATE.with_borrow_mut(|state| state.release("flush"))
    }
}

impl state::Guest for Frozen {
    fn save() -> Result<Vec<u8>, Vec<u8>> {
        STATE.with_borrow(|state| {
            let mut saved = format!("{} {}", state.seen, state.next);
            state.held.iter().for_each(|(number, text)| saved += &format!("\n{number} {text}"));
            Ok(saved.into_bytes())
        })
    }

    fn load(saved: Vec<u8>) -> Result<(), Vec<u8>> {
        let text = String::from_utf8_lossy(&saved).into_owned();
        let bad = || format!("cannot read {text:?}").into_bytes();
        let mut lines = text.split('\n').map(|line| line.split_once(' '));
        let (seen, next) = lines.next().flatten().ok_or_else(bad)?;
        let number = |digits: &str| digits.parse::<u64>().map_err(|_| bad());
        let (seen, next) = (number(seen)?, number(next)?);
        let mut held = Vec::new();
        for line in lines {
            let (at, line) = line.ok_or_else(bad)?;
            held.push((number(at)?, line.to_string()));
        }
        STATE.with_borrow_mut(|state| (state.seen, state.next, state.held) = (seen, next, held));
        Ok(())
    }
}
