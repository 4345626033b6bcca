//! Random answers that are nearly right, against an oracle that knows the contract's rules and nothing of the engine: what keeps
//! them comes out as it was said, with every line accounted for; what breaks one is a broken answer, and the instance is done.

use crate::guests::{self, Answer, Column, List, Outcome, Output};
use crate::support::{LIMITS, Text, load, origin, surroundings};
use proptest::prelude::*;
use std::cell::OnceCell;
use std::ops::RangeInclusive;
use tailmill_engine::{FaultKind, Instance, Module};

const TOPICS: u16 = 2;

/// A guest that answers what its first line says: where the answer will lie, and what is to lie from 1024 on.
fn scripted() -> Instance {
    thread_local! {
        static MODULE: OnceCell<Module> = const { OnceCell::new() };
    }
    let run = "(local.set $x (i32.add (local.get $data) (i32.load (local.get $starts))))
        (local.set $n (i32.sub (i32.load (local.get $ends)) (i32.load (local.get $starts))))
        (memory.copy (i32.const 1024) (i32.add (local.get $x) (i32.const 4)) (i32.sub (local.get $n) (i32.const 4)))
        (i32.load (local.get $x))";
    let module = MODULE.with(|module| module.get_or_init(|| load(&guests::batch().run(run).wasm())).clone());
    module.start("{}", &LIMITS, &surroundings(), false).expect("a start")
}

fn script(answer: &Answer) -> Vec<u8> {
    let mut image = guests::batch().image;
    let place = image.answer(answer);
    [&place.to_le_bytes(), image.bytes()].concat()
}

/// One line that goes on: what it says, its source, and all that belongs to it.
#[derive(Debug, PartialEq)]
struct Line {
    value: Vec<u8>,
    source: u64,
    key: Option<Vec<u8>>,
    topic: u16,
    timestamp_ms: Option<i64>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// What becomes of the lines.
#[derive(Debug, PartialEq)]
enum Meant {
    /// These, by number in the batch.
    Keeps(Vec<usize>),
    Emits(Vec<Line>),
}

/// What the contract says of an answer. `None`: it breaks a rule.
fn meant(answer: &Answer, lines: usize, window: &RangeInclusive<u64>) -> Option<Meant> {
    if let Some(held) = answer.held
        && (!window.contains(&held) || window.end() - held + 1 > LIMITS.held_lines as u64)
    {
        return None;
    }
    match &answer.outcome {
        Outcome::KeepAll => Some(Meant::Keeps((0..lines).collect())),
        Outcome::Tag(_) => None,
        Outcome::Keep(mask) => {
            let mask = raw(mask);
            let bits = (0..lines).filter(|i| mask.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1));
            (mask.len() == lines.div_ceil(8)).then(|| Meant::Keeps(bits.collect()))
        }
        Outcome::Emit(output) => emitted(output, window).map(Meant::Emits),
    }
}

fn raw(list: &List) -> &[u8] {
    match list {
        List::Bytes(bytes) => bytes,
        List::Claim(..) => panic!("bytes that nobody has"),
    }
}

fn packed<const N: usize, T>(list: &List, from: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
    let (numbers, rest) = raw(list).as_chunks::<N>();
    rest.is_empty().then(|| numbers.iter().map(|number| from(*number)).collect())
}

fn emitted(output: &Output, window: &RangeInclusive<u64>) -> Option<Vec<Line>> {
    let (starts, ends) = (packed(&output.starts, u32::from_le_bytes)?, packed(&output.ends, u32::from_le_bytes)?);
    let sources = packed(&output.source, u64::from_le_bytes)?;
    let (topics, times) =
        (packed(&output.topics, u16::from_le_bytes)?, packed(&output.timestamps, i64::from_le_bytes)?);
    let (count, data) = (starts.len(), raw(&output.data));
    let fits = |len: usize| len == 0 || len == count;
    if ends.len() != count || sources.len() != count || !fits(topics.len()) || !fits(times.len()) {
        return None;
    }
    let bounds: Vec<u32> = starts.iter().zip(&ends).flat_map(|(start, end)| [*start, *end]).collect();
    let is_rising = bounds.is_sorted() && bounds.last().is_none_or(|last| *last as usize <= data.len());
    if !is_rising
        || !sources.iter().all(|source| window.contains(source))
        || topics.iter().any(|topic| *topic >= TOPICS)
    {
        return None;
    }
    let keys = match &output.keys {
        Some(keys) => values(keys, count)?,
        None => vec![None; count],
    };
    let mut headers = Vec::new();
    for (name, column) in &output.headers {
        let name = String::from_utf8(raw(name).to_vec()).ok().filter(|name| (1..=256).contains(&name.len()))?;
        headers.push((name, values(column, count)?));
    }
    let line = |i: usize| Line {
        value: data[starts[i] as usize..ends[i] as usize].to_vec(),
        source: sources[i],
        key: keys[i].clone(),
        topic: topics.get(i).copied().unwrap_or(0),
        timestamp_ms: times.get(i).copied(),
        headers: headers.iter().map(|(name, values)| (name.clone(), values[i].clone())).collect(),
    };
    Some((0..count).map(line).collect())
}

fn values(column: &Column, count: usize) -> Option<Vec<Option<Vec<u8>>>> {
    let (present, data, ends) = (raw(&column.present), raw(&column.data), packed(&column.ends, u32::from_le_bytes)?);
    if ends.len() != count || !(present.is_empty() || present.len() == count.div_ceil(8)) {
        return None;
    }
    let mut before = 0;
    let mut values = Vec::new();
    for (i, end) in ends.into_iter().enumerate() {
        let is_there = present.is_empty() || present[i / 8] >> (i % 8) & 1 == 1;
        if end < before || end as usize > data.len() || (!is_there && end != before) {
            return None;
        }
        values.push(is_there.then(|| data[before as usize..end as usize].to_vec()));
        before = end;
    }
    Some(values)
}

/// What the engine says of it, in the same words.
fn said(outcome: &tailmill_engine::Outcome, lines: usize) -> Meant {
    use tailmill_engine::Outcome;
    match outcome {
        Outcome::KeepAll => Meant::Keeps((0..lines).collect()),
        Outcome::DropAll => Meant::Keeps(Vec::new()),
        Outcome::Keep(mask) => Meant::Keeps(mask.ones().collect()),
        Outcome::Emit(output) => {
            let line = |i: usize| Line {
                value: output.line(i).to_vec(),
                source: output.sources[i],
                key: output.keys.as_ref().and_then(|keys| keys.get(i)).map(<[u8]>::to_vec),
                topic: output.topics.get(i).copied().unwrap_or(0),
                timestamp_ms: output.timestamps_ms.get(i).copied(),
                headers: output
                    .headers
                    .iter()
                    .map(|header| (header.name.clone(), header.values.get(i).map(<[u8]>::to_vec)))
                    .collect(),
            };
            Meant::Emits((0..output.len()).map(line).collect())
        }
    }
}

fn packing<T: Clone + std::fmt::Debug, const N: usize>(
    numbers: impl Strategy<Value = Vec<T>>,
    to: impl Fn(T) -> [u8; N],
) -> impl Strategy<Value = List> {
    numbers.prop_map(move |numbers| List::Bytes(numbers.into_iter().flat_map(&to).collect()))
}

/// As many as wanted, nearly always.
fn about(count: usize) -> impl Strategy<Value = usize> {
    prop_oneof![30 => Just(count), 1 => Just(count + 1), 1 => Just(count.saturating_sub(1))]
}

fn numbers<T: Strategy>(count: usize, of: impl Fn() -> T) -> impl Strategy<Value = Vec<T::Value>>
where
    T::Value: std::fmt::Debug,
{
    about(count).prop_flat_map(move |count| prop::collection::vec(of(), count))
}

/// Rising, nearly always; inside of `len`, nearly always.
fn bounds(count: usize, len: u32) -> impl Strategy<Value = Vec<u32>> {
    let any = numbers(count, move || prop_oneof![60 => 0..=len, 1 => Just(len + 1), 1 => any::<u32>()]);
    (any, prop::bool::weighted(0.95)).prop_map(|(mut all, sorts)| {
        if sorts {
            all.sort_unstable();
        }
        all
    })
}

fn column(count: usize) -> impl Strategy<Value = Column> {
    let present = prop_oneof![
        2 => Just(List::default()),
        2 => packing(numbers(count.div_ceil(8), || Just(0xffu8)), |byte| [byte]),
        1 => packing(numbers(count.div_ceil(8), any::<u8>), |byte| [byte]),
    ];
    let ends = packing(bounds(count, 6), u32::to_le_bytes);
    (present, prop::collection::vec(any::<u8>(), 6), ends).prop_map(|(present, data, ends)| Column {
        present,
        data: List::Bytes(data),
        ends,
    })
}

fn output(window: RangeInclusive<u64>) -> impl Strategy<Value = Output> {
    (0..5usize).prop_flat_map(move |count| {
        let (low, high) = (*window.start(), *window.end());
        let source = move || prop_oneof![40 => low..=high, 1 => Just(low.wrapping_sub(1)), 1 => Just(high + 1), 1 => any::<u64>()];
        let optional = move |given: bool| if given { count } else { 0 };
        let lines = bounds(2 * count, 12).prop_map(|all| {
            let pick = |from: usize| all.iter().skip(from).step_by(2).flat_map(|at| at.to_le_bytes()).collect();
            (List::Bytes(pick(0)), List::Bytes(pick(1)))
        });
        let topics = any::<bool>().prop_flat_map(move |given| {
            packing(numbers(optional(given), || prop_oneof![30 => 0..TOPICS, 1 => Just(TOPICS)]), u16::to_le_bytes)
        });
        let times = any::<bool>().prop_flat_map(move |given| packing(numbers(optional(given), any::<i64>), i64::to_le_bytes));
        let name = prop_oneof![10 => Just(b"name".to_vec()), 1 => Just(Vec::new()), 1 => prop::collection::vec(any::<u8>(), 1..4)];
        let header = (name.prop_map(List::Bytes), column(count));
        let data = prop::collection::vec(any::<u8>(), 12).prop_map(List::Bytes);
        let sources = packing(numbers(count, source), u64::to_le_bytes);
        (data, lines, sources, prop::option::of(column(count)), topics, times, prop::collection::vec(header, 0..3)).prop_map(
            |(data, (starts, ends), source, keys, topics, timestamps, headers)| Output {
                data, starts, ends, source, keys, topics, timestamps, headers, headers_claim: None,
            },
        )
    })
}

/// Answers to `lines` lines from `first` on, where lines from `held` on may be known.
fn answer(lines: usize, window: RangeInclusive<u64>) -> impl Strategy<Value = Answer> {
    let (low, high) = (*window.start(), *window.end());
    let mask = packing(numbers(lines.div_ceil(8), any::<u8>), |byte| [byte]);
    let outcome = prop_oneof![
        1 => Just(Outcome::KeepAll),
        3 => mask.prop_map(Outcome::Keep),
        6 => output(window).prop_map(|output| Outcome::Emit(Box::new(output))),
    ];
    let held = prop::option::of(
        prop_oneof![20 => low..=high, 1 => Just(low.wrapping_sub(1)), 1 => Just(high + 1), 1 => any::<u64>()],
    );
    (outcome, held).prop_map(|(outcome, held)| Answer { outcome, held, fault: None })
}

/// Batches of lines, as many as it says, each with a seed for its answer.
fn batches() -> impl Strategy<Value = (u64, Vec<(usize, u64)>)> {
    (1..1_000_000u64, prop::collection::vec((1..20usize, any::<u64>()), 1..5))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn an_answer_comes_out_as_the_contract_says_or_is_a_fault((mut first, batches) in batches()) {
        let mut instance = scripted();
        let mut held: Option<u64> = None;
        for (lines, seed) in batches {
            let window = held.map_or(first, |held| held.min(first))..=first + lines as u64 - 1;
            let answer = drawn(answer(lines, window.clone()), seed);
            let line = script(&answer);
            let text = Text::of(std::iter::once(line.as_slice()).chain((1..lines).map(|_| b"line".as_slice())));
            let found = instance.run(first, text.lines(), &origin());
            match (meant(&answer, lines, &window), found) {
                (Some(meant), Ok(found)) => {
                    prop_assert_eq!(said(&found.outcome, lines), meant);
                    prop_assert_eq!(found.oldest_held, answer.held);
                }
                (None, Err(fault)) => {
                    prop_assert_eq!(fault.kind, FaultKind::BrokenAnswer, "{}", fault.message);
                    prop_assert!(!fault.message.is_empty() && fault.message.len() <= 4096);
                    // From now on it answers nothing.
                    prop_assert!(instance.run(first, text.lines(), &origin()).is_err());
                    return Ok(());
                }
                (meant, found) => prop_assert!(false, "{:?}\nis meant as {:?}\nand came out as {:?}", answer, meant, found),
            }
            (held, first) = (answer.held, first + lines as u64);
        }
    }
}

/// A value of a strategy that depends on what came before.
fn drawn<T>(from: impl Strategy<Value = T>, seed: u64) -> T {
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let bytes: Vec<u8> = seed.to_le_bytes().repeat(4);
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    proptest::strategy::ValueTree::current(&from.new_tree(&mut runner).expect("a value"))
}
