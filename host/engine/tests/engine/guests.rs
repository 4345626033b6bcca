//! How a guest is written here: core WebAssembly text with the functions of the contract as the canonical ABI has them.
//!
//! Fixed answers are laid out in memory by the test (`Image`); `run` then only gives back where they are. Layouts, from the
//! place that a function gives back:
//!
//! ```text
//! start  result<traits, list>   0 tag   ok: 4 stateless  8 needles  16 keep-skipped    err: 4 message
//! run    result<answer, fault>  0 tag   ok: 8 outcome: tag  12 mask | data 20 starts 28 ends 36 source 44 keys (48 present
//!        56 data 64 ends) 72 topics 80 timestamps 88 headers (name, present, data, ends: 32)   96 held: tag  104 number
//!                                       err: 8 line: tag  16 number  24 message
//! tick   result<released, fault> 0 tag  ok: 8 output: tag  12.. as above  96 held  104   err: as run
//! ```

use std::fmt::Write;

pub(crate) const BATCH: &str = "tailmill:filter/batch@1.0.0#";
pub(crate) const LINE: &str = "tailmill:filter/line@1.0.0#";

/// A guest: parts of a module. What is not said does the plainest thing.
pub(crate) struct Guest {
    /// Bodies: `(result i32)`.
    pub(crate) start: String,
    pub(crate) run: String,
    /// More fields of the module, imports excepted.
    pub(crate) more: String,
    pub(crate) imports: String,
    pub(crate) memory: String,
    /// First thing `cabi_realloc` does.
    pub(crate) on_realloc: String,
    pub(crate) image: Image,
    pub(crate) is_line: bool,
}

/// Batch lane: keeps all, stateful.
pub(crate) fn batch() -> Guest {
    let mut image = Image::new();
    let traits = image.traits(false, &[], false);
    let answer = image.answer(&Answer::default());
    guest(image, traits, answer, false)
}

/// Line lane: keeps all.
pub(crate) fn line() -> Guest {
    let mut image = Image::new();
    let ok = image.place(&[0; 16]);
    guest(image, ok, ok, true)
}

fn guest(image: Image, start: u32, run: u32, is_line: bool) -> Guest {
    Guest {
        start: format!("(i32.const {start})"),
        run: format!("(i32.const {run})"),
        more: String::new(),
        imports: String::new(),
        memory: "2".to_owned(),
        on_realloc: String::new(),
        image,
        is_line,
    }
}

impl Guest {
    /// With other traits.
    pub(crate) fn traits(mut self, stateless: bool, needles: &[&str], keep_skipped: bool) -> Guest {
        let place = self.image.traits(stateless, needles, keep_skipped);
        self.start = format!("(i32.const {place})");
        self
    }

    /// Always answers this.
    pub(crate) fn answers(mut self, answer: &Answer) -> Guest {
        let place = self.image.answer(answer);
        self.run = format!("(i32.const {place})");
        self
    }

    pub(crate) fn run(mut self, body: &str) -> Guest {
        self.run = body.to_owned();
        self
    }

    pub(crate) fn start(mut self, body: &str) -> Guest {
        self.start = body.to_owned();
        self
    }

    pub(crate) fn more(mut self, fields: &str) -> Guest {
        self.more.push_str(fields);
        self
    }

    pub(crate) fn imports(mut self, fields: &str) -> Guest {
        self.imports.push_str(fields);
        self
    }

    pub(crate) fn on_realloc(mut self, body: &str) -> Guest {
        self.on_realloc = body.to_owned();
        self
    }

    pub(crate) fn memory(mut self, limits: &str) -> Guest {
        self.memory = limits.to_owned();
        self
    }

    pub(crate) fn text(&self) -> String {
        let (prefix, run_params) = match self.is_line {
            true => (LINE, "(param $data i32) (param $data_len i32)"),
            false => (BATCH, BATCH_PARAMS),
        };
        let Guest { start, run, more, imports, memory, on_realloc, image, .. } = self;
        let data = image.segment();
        format!(
            r#"(module
  {imports}
  (memory (export "memory") {memory})
  (global $heap (mut i32) (i32.const 65536))
  (func $realloc (export "cabi_realloc") (param i32 i32 i32) (param $new i32) (result i32) (local $at i32)
    {on_realloc}
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $new)))
    (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
      (then (if (i32.eq (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $new) (i32.const 16)))) (i32.const -1))
        (then unreachable))))
    (local.get $at))
  (func $start (export "{prefix}start") (param $config i32) (param $config_len i32) (result i32) {LOCALS} {start})
  (func $run (export "{prefix}run") {run_params} (result i32) {LOCALS} {run})
  (func (export "cabi_post_{prefix}run") (param i32) (global.set $heap (i32.const 65536)))
  {more}
  {data})"#
        )
    }

    pub(crate) fn wasm(&self) -> Vec<u8> {
        let text = self.text();
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }
}

const BATCH_PARAMS: &str = "(param $first i64) (param $data i32) (param $data_len i32) (param $starts i32) \
     (param $starts_len i32) (param $ends i32) (param $ends_len i32)";
/// For bodies that need some.
const LOCALS: &str = "(local $i i32) (local $n i32) (local $to i32) (local $x i32) (local $y i32) (local $z i32)";

/// `(func (export …))` of an interface of the batch world that is only there when it is wanted.
pub(crate) fn exported(interface: &str, function: &str, signature: &str, body: &str) -> String {
    format!("(func (export \"tailmill:filter/{interface}@1.0.0#{function}\") {signature} {body})\n")
}

/// A list in an answer: bytes that are there, or a claim.
#[derive(Clone, Debug)]
pub(crate) enum List {
    Bytes(Vec<u8>),
    Claim(u32, u32),
}

impl Default for List {
    fn default() -> List {
        List::Bytes(Vec::new())
    }
}

pub(crate) fn bytes(bytes: &[u8]) -> List {
    List::Bytes(bytes.to_vec())
}

pub(crate) fn u16s(numbers: &[u16]) -> List {
    List::Bytes(numbers.iter().flat_map(|n| n.to_le_bytes()).collect())
}

pub(crate) fn u32s(numbers: &[u32]) -> List {
    List::Bytes(numbers.iter().flat_map(|n| n.to_le_bytes()).collect())
}

pub(crate) fn u64s(numbers: &[u64]) -> List {
    List::Bytes(numbers.iter().flat_map(|n| n.to_le_bytes()).collect())
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Column {
    pub(crate) present: List,
    pub(crate) data: List,
    pub(crate) ends: List,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    pub(crate) data: List,
    pub(crate) starts: List,
    pub(crate) ends: List,
    pub(crate) source: List,
    pub(crate) keys: Option<Column>,
    pub(crate) topics: List,
    pub(crate) timestamps: List,
    pub(crate) headers: Vec<(List, Column)>,
    /// In place of `headers`.
    pub(crate) headers_claim: Option<(u32, u32)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) enum Outcome {
    #[default]
    KeepAll,
    Keep(List),
    Emit(Box<Output>),
    /// A tag that means nothing.
    Tag(u8),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) held: Option<u64>,
    /// In place of all above: an `err`.
    pub(crate) fault: Option<(Option<u64>, List)>,
}

pub(crate) fn keeps(mask: &[u8]) -> Answer {
    Answer { outcome: Outcome::Keep(bytes(mask)), ..Answer::default() }
}

pub(crate) fn emits(output: Output) -> Answer {
    Answer { outcome: Outcome::Emit(Box::new(output)), ..Answer::default() }
}

/// Two lines, `ab` and `c`, from the lines 10 and 11.
pub(crate) fn two_lines() -> Output {
    Output {
        data: bytes(b"ab,c"),
        starts: u32s(&[0, 3]),
        ends: u32s(&[2, 4]),
        source: u64s(&[10, 11]),
        ..Output::default()
    }
}

/// What lies in a guest's memory from 1024 on.
pub(crate) struct Image {
    bytes: Vec<u8>,
}

const BASE: u32 = 1024;

impl Image {
    fn new() -> Image {
        Image { bytes: Vec::new() }
    }

    /// Where `bytes` are from now on.
    pub(crate) fn place(&mut self, bytes: &[u8]) -> u32 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = BASE + self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        at
    }

    /// All of it, to be brought into a guest in another way than as a part of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn list(&mut self, list: &List) -> [u8; 8] {
        let (at, len) = match list {
            List::Bytes(bytes) => (self.place(bytes), bytes.len() as u32),
            List::Claim(at, len) => (*at, *len),
        };
        let mut pair = [0; 8];
        pair[..4].copy_from_slice(&at.to_le_bytes());
        pair[4..].copy_from_slice(&len.to_le_bytes());
        pair
    }

    fn traits(&mut self, stateless: bool, needles: &[&str], keep_skipped: bool) -> u32 {
        let needles: Vec<u8> = needles.iter().flat_map(|needle| self.list(&bytes(needle.as_bytes()))).collect();
        let packed = self.list(&List::Bytes(needles.clone()));
        let mut record = [0; 20];
        record[4] = u8::from(stateless);
        record[8..16].copy_from_slice(&packed);
        record[12..16].copy_from_slice(&(needles.len() as u32 / 8).to_le_bytes());
        record[16] = u8::from(keep_skipped);
        self.place(&record)
    }

    fn column(&mut self, column: &Column) -> [u8; 24] {
        let mut record = [0; 24];
        for (at, list) in [&column.present, &column.data, &column.ends].into_iter().enumerate() {
            record[at * 8..][..8].copy_from_slice(&self.list(list));
        }
        record
    }

    fn output(&mut self, output: &Output) -> [u8; 84] {
        let mut record = [0; 84];
        let lists = [
            (0, &output.data),
            (8, &output.starts),
            (16, &output.ends),
            (24, &output.source),
            (60, &output.topics),
            (68, &output.timestamps),
        ];
        for (at, list) in lists {
            record[at..at + 8].copy_from_slice(&self.list(list));
        }
        if let Some(keys) = &output.keys {
            record[32] = 1;
            record[36..60].copy_from_slice(&self.column(keys));
        }
        let mut headers = Vec::new();
        for (name, values) in &output.headers {
            headers.extend_from_slice(&self.list(name));
            headers.extend_from_slice(&self.column(values));
        }
        let (at, len) = output.headers_claim.unwrap_or((self.place(&headers), output.headers.len() as u32));
        record[76..80].copy_from_slice(&at.to_le_bytes());
        record[80..84].copy_from_slice(&len.to_le_bytes());
        record
    }

    /// The answer of `run`.
    pub(crate) fn answer(&mut self, answer: &Answer) -> u32 {
        let mut record = [0; 112];
        if let Some((line, message)) = &answer.fault {
            return self.fault(*line, message);
        }
        match &answer.outcome {
            Outcome::KeepAll => {}
            Outcome::Tag(tag) => record[8] = *tag,
            Outcome::Keep(mask) => {
                record[8] = 2;
                record[12..20].copy_from_slice(&self.list(mask));
            }
            Outcome::Emit(output) => {
                record[8] = 3;
                record[12..96].copy_from_slice(&self.output(output));
            }
        }
        set_held(&mut record, answer.held);
        self.place(&record)
    }

    /// The answer of `tick` and `flush`.
    pub(crate) fn released(&mut self, output: Option<&Output>, held: Option<u64>) -> u32 {
        let mut record = [0; 112];
        if let Some(output) = output {
            record[8] = 1;
            record[12..96].copy_from_slice(&self.output(output));
        }
        set_held(&mut record, held);
        self.place(&record)
    }

    fn fault(&mut self, line: Option<u64>, message: &List) -> u32 {
        let mut record = [0; 112];
        record[0] = 1;
        record[8] = u8::from(line.is_some());
        record[16..24].copy_from_slice(&line.unwrap_or_default().to_le_bytes());
        record[24..32].copy_from_slice(&self.list(message));
        self.place(&record)
    }

    fn segment(&self) -> String {
        let mut text = format!("(data (i32.const {BASE}) \"");
        self.bytes.iter().for_each(|byte| write!(text, "\\{byte:02x}").expect("a string grows"));
        text + "\")"
    }
}

fn set_held(record: &mut [u8; 112], held: Option<u64>) {
    record[96] = u8::from(held.is_some());
    record[104..112].copy_from_slice(&held.unwrap_or_default().to_le_bytes());
}

/// A guest of the batch lane that does what the first byte of each line says, for comparison with an oracle:
/// `d` drop, `r` replace by the rest of the line, `t` trap, `l` loop, `x` refuse, anything else keep. Answers a mask, and new
/// lines as soon as there is an `r`.
pub(crate) fn obedient_batch(stateless: bool, needles: &[&str], keep_skipped: bool) -> Guest {
    let mut guest = batch().traits(stateless, needles, keep_skipped);
    // Mask from 16384 on, columns of new lines from 24576, 32768 and 40960 on: enough for 1,024 lines.
    let answer = guest.image.place(&[0; 112]);
    let refusal = guest.image.place(&[0; 112]);
    let message = guest.image.place(b"I cannot");
    guest.run(&format!(
        r#"
    (memory.fill (i32.const 16384) (i32.const 0) (i32.const 8192))
    (memory.fill (i32.const {answer}) (i32.const 0) (i32.const 112))
    (local.set $n (i32.shr_u (local.get $ends_len) (i32.const 2)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (local.set $x (i32.load (i32.add (local.get $starts) (i32.shl (local.get $i) (i32.const 2)))))
      (local.set $y (i32.load (i32.add (local.get $ends) (i32.shl (local.get $i) (i32.const 2)))))
      (local.set $z (i32.const 0))
      (if (i32.lt_u (local.get $x) (local.get $y))
        (then (local.set $z (i32.load8_u (i32.add (local.get $data) (local.get $x))))))
      (if (i32.eq (local.get $z) (i32.const 116)) (then unreachable))
      (if (i32.eq (local.get $z) (i32.const 108)) (then (loop $forever (br $forever))))
      (if (i32.eq (local.get $z) (i32.const 120)) (then
        (i32.store8 (i32.const {refusal}) (i32.const 1))
        (i32.store8 offset=8 (i32.const {refusal}) (i32.const 1))
        (i64.store offset=16 (i32.const {refusal}) (i64.add (local.get $first) (i64.extend_i32_u (local.get $i))))
        (i32.store offset=24 (i32.const {refusal}) (i32.const {message}))
        (i32.store offset=28 (i32.const {refusal}) (i32.const 8))
        (return (i32.const {refusal}))))
      (if (i32.ne (local.get $z) (i32.const 100)) (then
        (i32.store8 (i32.add (i32.const 16384) (i32.shr_u (local.get $i) (i32.const 3)))
          (i32.or (i32.load8_u (i32.add (i32.const 16384) (i32.shr_u (local.get $i) (i32.const 3))))
            (i32.shl (i32.const 1) (i32.and (local.get $i) (i32.const 7)))))
        (if (i32.eq (local.get $z) (i32.const 114)) (then
          (local.set $x (i32.add (local.get $x) (i32.const 1)))
          (i32.store8 offset=8 (i32.const {answer}) (i32.const 3))))
        (i32.store (i32.add (i32.const 24576) (i32.shl (local.get $to) (i32.const 2))) (local.get $x))
        (i32.store (i32.add (i32.const 32768) (i32.shl (local.get $to) (i32.const 2))) (local.get $y))
        (i64.store (i32.add (i32.const 40960) (i32.shl (local.get $to) (i32.const 3)))
          (i64.add (local.get $first) (i64.extend_i32_u (local.get $i))))
        (local.set $to (i32.add (local.get $to) (i32.const 1)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (if (i32.load8_u offset=8 (i32.const {answer}))
      (then
        (i32.store offset=12 (i32.const {answer}) (local.get $data))
        (i32.store offset=16 (i32.const {answer}) (local.get $data_len))
        (i32.store offset=20 (i32.const {answer}) (i32.const 24576))
        (i32.store offset=24 (i32.const {answer}) (i32.shl (local.get $to) (i32.const 2)))
        (i32.store offset=28 (i32.const {answer}) (i32.const 32768))
        (i32.store offset=32 (i32.const {answer}) (i32.shl (local.get $to) (i32.const 2)))
        (i32.store offset=36 (i32.const {answer}) (i32.const 40960))
        (i32.store offset=40 (i32.const {answer}) (i32.shl (local.get $to) (i32.const 3))))
      (else
        (i32.store8 offset=8 (i32.const {answer}) (i32.const 2))
        (i32.store offset=12 (i32.const {answer}) (i32.const 16384))
        (i32.store offset=16 (i32.const {answer}) (i32.shr_u (i32.add (local.get $n) (i32.const 7)) (i32.const 3)))))
    (i32.const {answer})"#
    ))
}

/// The same for the line lane.
pub(crate) fn obedient_line() -> Guest {
    let mut guest = line();
    let answer = guest.image.place(&[0; 16]);
    let message = guest.image.place(b"I cannot");
    guest.run(&format!(
        r#"
    (memory.fill (i32.const {answer}) (i32.const 0) (i32.const 16))
    (if (local.get $data_len) (then (local.set $z (i32.load8_u (local.get $data)))))
    (if (i32.eq (local.get $z) (i32.const 116)) (then unreachable))
    (if (i32.eq (local.get $z) (i32.const 108)) (then (loop $forever (br $forever))))
    (if (i32.eq (local.get $z) (i32.const 100)) (then (i32.store8 offset=4 (i32.const {answer}) (i32.const 1))))
    (if (i32.eq (local.get $z) (i32.const 114)) (then
      (i32.store8 offset=4 (i32.const {answer}) (i32.const 2))
      (i32.store offset=8 (i32.const {answer}) (i32.add (local.get $data) (i32.const 1)))
      (i32.store offset=12 (i32.const {answer}) (i32.sub (local.get $data_len) (i32.const 1)))))
    (if (i32.eq (local.get $z) (i32.const 120)) (then
      (i32.store8 (i32.const {answer}) (i32.const 1))
      (i32.store offset=4 (i32.const {answer}) (i32.const {message}))
      (i32.store offset=8 (i32.const {answer}) (i32.const 8))))
    (i32.const {answer})"#
    ))
}
