//! The filter call alone, in this process: no file, no Kafka. Batches as the agent makes them.

use anyhow::Context as _;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tailmill_engine::{Engine, EngineOptions, Limits, Lines, Module, Origin, Surroundings};
use tailmill_tests::agent::stock_filter;

use crate::data::Data;

/// A filter call's cost.
#[derive(Debug, Serialize)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) ns_per_line: f64,
}

/// Lines in a batch, as in the figures of the design.
const BATCH: usize = 1_024;
/// Times that the text is gone through; the fastest counts, since only other programs make it slower.
const ROUNDS: usize = 5;
/// So much of the file is used.
const TEXT_BYTES: usize = 32 << 20;

/// A filter of the line world that keeps every line: what is left is the call itself.
const KEEP_EVERY_LINE: &str = r#"
(module
  (memory (export "memory") 18)
  ;; Every argument lies in the same place: nothing outlives a call. One page is the answer's, 17 are the line's.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
  ;; All zeros: ok(_), ok(keep).
  (func (export "tailmill:filter/line@1.0.0#start") (param i32 i32) (result i32) i32.const 1024)
  (func (export "tailmill:filter/line@1.0.0#run") (param i32 i32) (result i32) i32.const 1024))
"#;

pub(crate) fn measure(data: &Data) -> anyhow::Result<Vec<Call>> {
    let mut text = std::fs::read(&data.path)?;
    text.truncate(TEXT_BYTES);
    let engine = Engine::new(EngineOptions::default())?;
    let stop = Arc::new(AtomicBool::new(false));
    let ticker = {
        let (engine, stop) = (engine.clone(), stop.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(EngineOptions::default().epoch_every);
                engine.tick_epoch();
            }
        })
    };
    let grep = engine.load(&std::fs::read(stock_filter("grep"))?).context("while loading grep")?;
    let line = engine.load(&wat::parse_str(KEEP_EVERY_LINE)?).context("while loading a filter of the line world")?;
    let chunks = chunks(&text);
    let cases = [
        ("grep, literal that is nowhere", &grep, r#"{"exclude":"no such word"}"#),
        ("grep, literal in many lines", &grep, r#"{"exclude":"e.orders"}"#),
        ("grep, regex", &grep, r#"{"exclude_regex":"no [sS]uch \\w+rd"}"#),
        ("line world, keep every line", &line, "{}"),
    ];
    let calls = cases.iter().map(|(name, module, with)| {
        let ns_per_line = best(module, with, &chunks).with_context(|| format!("while measuring {name}"))?;
        Ok(Call { name: (*name).to_owned(), ns_per_line })
    });
    let calls = calls.collect::<anyhow::Result<Vec<Call>>>();
    stop.store(true, Ordering::Relaxed);
    let _ = ticker.join();
    calls
}

struct Chunk<'a> {
    data: &'a [u8],
    starts: Vec<u32>,
    ends: Vec<u32>,
}

fn chunks(text: &[u8]) -> Vec<Chunk<'_>> {
    let ends: Vec<usize> = memchr::memchr_iter(b'\n', text).collect();
    let mut begin = 0;
    let chunk = |ends: &[usize]| {
        let last = ends.last().map_or(begin, |end| end + 1);
        let data = &text[begin..last];
        let relative = |end: &usize| (end - begin) as u32;
        let ends: Vec<u32> = ends.iter().map(relative).collect();
        let starts = std::iter::once(0).chain(ends.iter().map(|end| end + 1)).take(ends.len()).collect();
        begin = last;
        Chunk { data, starts, ends }
    };
    ends.chunks(BATCH).map(chunk).collect()
}

fn best(module: &Module, with: &str, chunks: &[Chunk<'_>]) -> anyhow::Result<f64> {
    let surroundings = Surroundings { node: "bench".into(), topics: vec!["bench".into()] };
    let mut instance = module.start(with, &Limits::STANDARD, &surroundings, true)?;
    let origin = Origin::default();
    let mut fastest = Duration::MAX;
    let mut first = 0;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for chunk in chunks {
            let lines = Lines { data: chunk.data, starts: &chunk.starts, ends: &chunk.ends };
            std::hint::black_box(instance.run(first, lines, &origin)?);
            first += lines.len() as u64;
        }
        fastest = fastest.min(begun.elapsed());
    }
    let lines: usize = chunks.iter().map(|chunk| chunk.starts.len()).sum();
    Ok(fastest.as_nanos() as f64 / lines as f64)
}
