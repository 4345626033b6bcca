//! One engine for all tests, with somebody who moves its epoch on; limits; lines.

use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tailmill_engine::{
    Answer, Engine, EngineOptions, Fault, FaultKind, Instance, Limits, Lines, Mask, Module, Origin, Outcome,
    Surroundings,
};

/// Small enough to be hit, large enough for what is not about limits.
pub(crate) const LIMITS: Limits = Limits {
    call_time: Duration::from_millis(100),
    memory_bytes: 4 << 20,
    table_elements: 1_000,
    output_bytes: 1 << 20,
    held_lines: 100,
    state_bytes: 4 << 10,
};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| ticking(EngineOptions::default()));

/// Compiles in this process.
pub(crate) fn engine() -> &'static Engine {
    &ENGINE
}

/// An engine whose epoch moves on until the end of the process.
pub(crate) fn ticking(options: EngineOptions) -> Engine {
    let engine = Engine::new(options).expect("an engine");
    let ticked = engine.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(ticked.epoch_every());
            ticked.tick_epoch();
        }
    });
    engine
}

pub(crate) fn load(wasm: &[u8]) -> Module {
    engine().load(wasm).expect("a module that loads")
}

pub(crate) fn start(wasm: &[u8]) -> Instance {
    start_with(wasm, &LIMITS).expect("a guest that starts")
}

pub(crate) fn start_with(wasm: &[u8], limits: &Limits) -> Result<Instance, Fault> {
    load(wasm).start("{}", limits, &surroundings(), true)
}

pub(crate) fn surroundings() -> Surroundings {
    Surroundings { node: "node-7".into(), topics: vec!["main".into(), "errors".into()] }
}

pub(crate) fn origin() -> Origin {
    Origin {
        stream_id: 77,
        path: Arc::from(b"/var/log/\xff.log".as_slice()),
        first_offset: 4096,
        inode: 1 << 40,
        generation: "5f0c".into(),
        first_line: 100,
    }
}

/// Lines in one buffer, as a file has them.
pub(crate) struct Text {
    pub(crate) data: Vec<u8>,
    pub(crate) starts: Vec<u32>,
    pub(crate) ends: Vec<u32>,
}

impl Text {
    pub(crate) fn of<L: AsRef<[u8]>>(lines: impl IntoIterator<Item = L>) -> Text {
        Text::behind(0, lines)
    }

    /// The first line does not start the buffer.
    pub(crate) fn behind<L: AsRef<[u8]>>(lead: usize, lines: impl IntoIterator<Item = L>) -> Text {
        let mut text = Text { data: vec![b'#'; lead], starts: Vec::new(), ends: Vec::new() };
        for line in lines {
            text.starts.push(text.data.len() as u32);
            text.data.extend_from_slice(line.as_ref());
            text.ends.push(text.data.len() as u32);
            text.data.push(b'\n');
        }
        text
    }

    pub(crate) fn lines(&self) -> Lines<'_> {
        Lines { data: &self.data, starts: &self.starts, ends: &self.ends }
    }
}

pub(crate) fn run(instance: &mut Instance, first: u64, lines: &[&str]) -> Result<Answer, Fault> {
    instance.run(first, Text::of(lines).lines(), &origin())
}

/// An outcome in a form that can be read in a test: `keep 0 2`, or each line with its source.
pub(crate) fn shown(outcome: &Outcome) -> String {
    match outcome {
        Outcome::KeepAll => "keep all".to_owned(),
        Outcome::DropAll => "drop all".to_owned(),
        Outcome::Keep(mask) => format!("keep{}", mask.ones().map(|i| format!(" {i}")).collect::<String>()),
        Outcome::Emit(output) => {
            let line = |i: usize| format!("{}:{}", output.sources[i], String::from_utf8_lossy(output.line(i)));
            (0..output.len()).map(line).collect::<Vec<_>>().join(" ")
        }
    }
}

pub(crate) fn mask_of(bits: &[bool]) -> Mask {
    let mut mask = Mask { words: vec![0; bits.len().div_ceil(64)], len: bits.len() };
    bits.iter().enumerate().filter(|(_, bit)| **bit).for_each(|(i, _)| mask.words[i / 64] |= 1 << (i % 64));
    mask
}

/// A fault of this kind whose message says `why`.
#[track_caller]
pub(crate) fn expect_fault<T: std::fmt::Debug>(result: Result<T, Fault>, kind: FaultKind, why: &str) {
    let fault = result.expect_err("a fault");
    assert_eq!(fault.kind, kind, "{}", fault.message);
    assert!(fault.message.contains(why), "{:?} is not in {:?}", why, fault.message);
    assert!(fault.message.len() <= 4096);
}

/// As above, of a start. An instance cannot be shown.
#[track_caller]
pub(crate) fn expect_start_fault(result: Result<Instance, Fault>, kind: FaultKind, why: &str) {
    expect_fault(result.map(|_| ()), kind, why);
}
