//! Guests that mean harm. Beside each of them a good guest goes on as if nothing had happened.

use crate::guests::{
    self, Answer, Column, Guest, Image, List, Outcome, Output, bytes, emits, exported, two_lines, u32s, u64s,
};
use crate::support::{LIMITS, engine, load, origin, run, shown, start, surroundings};
use proptest::prelude::*;
use tailmill_engine::{Fault, FaultKind, Instance};

/// How far a guest gets: through `load`, `start`, two batches of two lines, a tick, a flush, a save and a load.
fn lead_through(wasm: &[u8]) -> Result<(), Fault> {
    let mut instance = load(wasm).start("{}", &LIMITS, &surroundings(), false)?;
    for first in [10, 12] {
        run(&mut instance, first, &["one", "two"])?;
    }
    if instance.every_ms()?.is_some() {
        instance.tick(&origin())?;
    }
    instance.flush(&origin())?;
    if let Some(state) = instance.save()? {
        instance.load_state(&state, 14, None)?;
    }
    Ok(())
}

struct Corpus {
    good: Instance,
    seen: u64,
}

impl Corpus {
    fn new() -> Corpus {
        Corpus { good: start(&guests::obedient_batch(true, &[], false).wasm()), seen: 0 }
    }

    fn check(&mut self, name: &str, guest: &Guest, kind: FaultKind) {
        self.check_wasm(name, &guest.wasm(), kind);
    }

    fn check_wasm(&mut self, name: &str, wasm: &[u8], kind: FaultKind) {
        let fault = lead_through(wasm).expect_err(name);
        assert_eq!(fault.kind, kind, "{name}: {}", fault.message);
        assert!(fault.message.len() <= 4096, "{name}");
        self.look_after_the_good_one(name);
    }

    fn look_after_the_good_one(&mut self, name: &str) {
        let answer = run(&mut self.good, self.seen, &["k", "d", "k"]).expect("an answer");
        assert_eq!(shown(&answer.outcome), "keep 0 2", "beside {name}");
        self.seen += 3;
    }
}

const FOREVER: &str = "(loop $next (br $next)) unreachable";

#[test]
fn loops() {
    let mut corpus = Corpus::new();
    let optional = |interface: &str, function: &str, signature: &str| {
        let others = [
            ("ticks", "every-ms", "(result i32)", "(i32.const 5)"),
            ("ticks", "tick", "(result i32)", "(i32.const 704)"),
            ("finish", "flush", "(result i32)", "(i32.const 704)"),
            ("state", "save", "(result i32)", "(i32.const 704)"),
            ("state", "load", "(param i32 i32) (result i32)", "(i32.const 704)"),
        ];
        let all = others.map(|(of, name, like, body)| {
            let is_it = (of, name, like) == (interface, function, signature);
            exported(of, name, like, if is_it { FOREVER } else { body })
        });
        guests::batch().more(&all.concat())
    };
    corpus.check("loop in run", &guests::batch().run(FOREVER), FaultKind::Timeout);
    corpus.check("loop in run of a line", &guests::line().run(FOREVER), FaultKind::Timeout);
    corpus.check("loop in start", &guests::batch().start(FOREVER), FaultKind::Timeout);
    corpus.check("loop in cabi_realloc", &guests::batch().on_realloc(FOREVER), FaultKind::Timeout);
    corpus.check(
        "loop at instantiation",
        &guests::batch().more("(func $begin (loop $next (br $next))) (start $begin)"),
        FaultKind::Timeout,
    );
    corpus.check("loop in every-ms", &optional("ticks", "every-ms", "(result i32)"), FaultKind::Timeout);
    corpus.check("loop in tick", &optional("ticks", "tick", "(result i32)"), FaultKind::Timeout);
    corpus.check("loop in flush", &optional("finish", "flush", "(result i32)"), FaultKind::Timeout);
    corpus.check("loop in save", &optional("state", "save", "(result i32)"), FaultKind::Timeout);
    corpus.check("loop in load", &optional("state", "load", "(param i32 i32) (result i32)"), FaultKind::Timeout);
    let text = guests::batch().text().replace("(global.set $heap (i32.const 65536))", "(loop $next (br $next))");
    corpus.check_wasm("loop behind the answer", &wat::parse_str(text).expect("text"), FaultKind::Timeout);
    let tail = "(func $around (result i32) (return_call $around))";
    corpus.check("endless tail calls", &guests::batch().run("(call $around)").more(tail), FaultKind::Timeout);
    let fill = "(loop $next (memory.fill (i32.const 0) (i32.const 1) (i32.const 131072)) (br $next)) unreachable";
    corpus.check("endless bulk copies", &guests::batch().run(fill), FaultKind::Timeout);
    let hopeless = "(loop $next (drop (memory.grow (i32.const 60000))) (br $next)) unreachable";
    corpus.check("endless vain growth", &guests::batch().run(hopeless), FaultKind::Timeout);
    let host = "(import \"tailmill:filter/host@1.0.0\" \"log\" (func $log (param i32 i32 i32)))";
    let shout = "(loop $next (call $log (i32.const 3) (i32.const 0) (i32.const 65536)) (br $next)) unreachable";
    corpus.check("endless shouting", &guests::batch().imports(host).run(shout), FaultKind::Timeout);
}

#[test]
fn greed() {
    let mut corpus = Corpus::new();
    let bomb = "(loop $next (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable)) (br $next)) unreachable";
    corpus.check("memory bomb in run", &guests::batch().run(bomb), FaultKind::Memory);
    corpus.check("memory bomb in a line", &guests::line().run(bomb), FaultKind::Memory);
    corpus.check("memory bomb in start", &guests::batch().start(bomb), FaultKind::Memory);
    corpus.check("memory bomb in cabi_realloc", &guests::batch().on_realloc(bomb), FaultKind::Memory);
    corpus.check("4 GiB from the beginning", &guests::batch().memory("65536"), FaultKind::Memory);
    corpus.check("a giant table", &guests::batch().more("(table 10000000 funcref)"), FaultKind::Memory);
    corpus.check(
        "a table that grows",
        &guests::batch().more("(table $t 1 funcref)").run(
            "(loop $next (if (i32.eq (table.grow $t (ref.null func) (i32.const 99)) (i32.const -1)) (then unreachable)) (br $next))
             unreachable",
        ),
        FaultKind::Memory,
    );
    let tables = "(table 500 funcref)".repeat(3);
    corpus.check("several tables", &guests::batch().more(&tables), FaultKind::Memory);
    corpus.check("100 tables", &guests::batch().more(&"(table 1 funcref)".repeat(90)), FaultKind::Memory);
}

#[test]
fn crashes() {
    let mut corpus = Corpus::new();
    let traps = [
        ("unreachable", "unreachable"),
        ("division by zero", "(i32.div_u (i32.const 1) (local.get $i))"),
        ("overflow", "(i32.div_s (i32.const -2147483648) (i32.const -1))"),
        ("float to int", "(i32.trunc_f64_s (f64.const nan))"),
        ("load out of bounds", "(i32.load (i32.const -4))"),
        ("copy out of bounds", "(memory.copy (i32.const 0) (i32.const 1) (i32.const 131072)) (i32.const 0)"),
        ("call of nothing", "(call_indirect $none (result i32) (i32.const 0))"),
        ("deep recursion", "(call $deep)"),
    ];
    for (name, body) in traps {
        let more = "(table $none 1 funcref) (func $deep (result i32) (i32.add (i32.const 1) (call $deep)))";
        corpus.check(name, &guests::batch().more(more).run(body), FaultKind::Trap);
        corpus.check(name, &guests::line().more(more).run(body), FaultKind::Trap);
        corpus.check(name, &guests::batch().more(more).start(body), FaultKind::Trap);
    }
    corpus.check(
        "a start section that traps",
        &guests::batch().more("(func $begin unreachable) (start $begin)"),
        FaultKind::Trap,
    );
}

#[test]
fn lies() {
    let mut corpus = Corpus::new();
    let broken = FaultKind::BrokenAnswer;
    // The allocator: memory that is not there, or not aligned.
    for place in ["-1", "-16", "131072", "0x7fffffff"] {
        let guest = guests::batch().on_realloc(&format!("(return (i32.const {place}))"));
        let fault = lead_through(&guest.wasm()).expect_err(place);
        assert!(matches!(fault.kind, FaultKind::Trap | FaultKind::BrokenAnswer), "{}", fault.message);
        corpus.look_after_the_good_one(place);
    }
    // The place of the answer.
    for place in [-1i32, -8, 131_072, 131_064, 1025] {
        corpus.check("an answer that is nowhere", &guests::batch().run(&format!("(i32.const {place})")), broken);
        corpus.check(
            "an answer to a line that is nowhere",
            &guests::line().run(&format!("(i32.const {})", place | 1)),
            broken,
        );
        corpus.check("traits that are nowhere", &guests::batch().start(&format!("(i32.const {})", place | 1)), broken);
    }
    // The same megabyte, a thousand times: what is lifted would be a gigabyte.
    let megabyte = List::Claim(0, 1 << 20);
    let headers =
        vec![(bytes(b"n"), Column { data: megabyte.clone(), ends: u32s(&[0, 0]), ..Column::default() }); 1_000];
    corpus.check(
        "headers that share a megabyte",
        &guests::batch().memory("32").answers(&emits(Output { headers, ..two_lines() })),
        broken,
    );
    let shared = |image: &mut Image| {
        let pair: Vec<u8> = [0u32, 1 << 20].iter().flat_map(|n| n.to_le_bytes()).collect();
        let list = image.place(&pair.repeat(1_000));
        let mut traits = [0; 20];
        traits[8..12].copy_from_slice(&list.to_le_bytes());
        traits[12..16].copy_from_slice(&1_000u32.to_le_bytes());
        image.place(&traits)
    };
    let mut guest = guests::batch().memory("32");
    let traits = shared(&mut guest.image);
    corpus.check("needles that share a megabyte", &guest.start(&format!("(i32.const {traits})")), broken);
    // A message of 4 MiB, in a refusal.
    let refusal = Answer { fault: Some((Some(10), List::Claim(0, 1 << 21))), ..Answer::default() };
    corpus.check("a long refusal", &guests::batch().memory("40").answers(&refusal), FaultKind::Refused);
    let list = |outcome| Answer { outcome, ..Answer::default() };
    corpus.check("a mask of 4 GiB", &guests::batch().answers(&list(Outcome::Keep(List::Claim(0, u32::MAX)))), broken);
    corpus.check(
        "holds the future",
        &guests::batch().answers(&Answer { held: Some(u64::MAX), ..Answer::default() }),
        broken,
    );
    let future = Output { source: u64s(&[10, u64::MAX]), ..two_lines() };
    corpus.check("lines from the future", &guests::batch().answers(&emits(future)), broken);
}

/// Whatever these bytes are, they do no harm.
fn survive(wasm: &[u8]) {
    if let Ok(module) = engine().load(wasm)
        && let Ok(mut instance) = module.start("{}", &LIMITS, &surroundings(), true)
    {
        for lines in [["a", "d"], ["rx", ""]] {
            let _ = run(&mut instance, 0, &lines);
        }
        let _ = instance.flush(&origin());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..400), layer in prop_oneof![Just(1u8), Just(0x0d)]) {
        survive(&bytes);
        let version: [u8; 8] = if layer == 1 { *b"\0asm\x01\0\0\0" } else { *b"\0asm\x0d\0\x01\0" };
        survive(&[version.as_slice(), &bytes].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn changed_modules_do_no_harm(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut wasm = guests::obedient_line().wasm();
        for (at, byte) in changes {
            let at = at.index(wasm.len());
            wasm[at] = byte;
        }
        survive(&wasm);
    }

    #[test]
    fn random_answers_do_no_harm(bytes in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => 0..4u8, 1 => any::<u8>()], 112)) {
        thread_local! {
            static ECHO: std::cell::RefCell<Option<tailmill_engine::Module>> = const { std::cell::RefCell::new(None) };
        }
        // Answers what its first line says.
        let module = ECHO.with_borrow_mut(|echo| {
            let guest = || guests::batch().run("(i32.and (i32.add (i32.add (local.get $data) (i32.load (local.get $starts))) (i32.const 7)) (i32.const -8))");
            echo.get_or_insert_with(|| load(&guest().wasm())).clone()
        });
        let mut instance = module.start("{}", &LIMITS, &surroundings(), false).expect("a start");
        let text = crate::support::Text::of([bytes.as_slice(), b"two"]);
        if let Ok(answer) = instance.run(10, text.lines(), &origin()) {
            // What was let through is fit to be used.
            if let tailmill_engine::Outcome::Emit(output) = &answer.outcome {
                (0..output.len()).for_each(|i| assert!(output.line(i).len() <= output.data.len()));
                assert!(output.sources.iter().all(|source| (10..12).contains(source)));
            }
            assert!(answer.oldest_held.is_none_or(|held| (10..12).contains(&held)));
        }
    }
}
