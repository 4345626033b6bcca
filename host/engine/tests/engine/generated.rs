//! Generated modules and answers: whatever they are, the host goes on, and says what is wrong or gives what the contract says.

use crate::guests;
use crate::support::{LIMITS, engine, load, origin, run, surroundings};
use proptest::prelude::*;
use proptest::sample::Index;

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
    fn changed_modules_do_no_harm(changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4)) {
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

/// Modules that real toolchains made.
const REAL: [&[u8]; 4] = [
    include_bytes!("../frozen/v1-batch.wasm"),
    include_bytes!("../frozen/v1-line.wasm"),
    include_bytes!("../frozen/v1.1-line.wasm"),
    include_bytes!("../frozen/v1.1-core.wasm"),
];

/// Something that happens to a file.
#[derive(Clone, Debug)]
enum Damage {
    Byte(Index, u8),
    Bit(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    /// Sections, of a core module or of the outermost component, change places.
    Swap(Index, Index),
    Twice(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        4 => (at(), 0..8u8).prop_map(|(at, bit)| Damage::Bit(at, bit)),
        1 => at().prop_map(Damage::Cut),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (at(), 1..9usize).prop_map(|(at, len)| Damage::Remove(at, len)),
        1 => (at(), at()).prop_map(|(one, other)| Damage::Swap(one, other)),
        1 => at().prop_map(Damage::Twice),
    ]
}

impl Damage {
    fn happen(&self, wasm: &mut Vec<u8>) {
        match self {
            _ if wasm.len() <= 8 => {}
            Damage::Byte(at, byte) => {
                let at = at.index(wasm.len());
                wasm[at] = *byte;
            }
            Damage::Bit(at, bit) => {
                let at = at.index(wasm.len());
                wasm[at] ^= 1 << bit;
            }
            Damage::Cut(at) => wasm.truncate(at.index(wasm.len())),
            Damage::Insert(at, bytes) => {
                let at = at.index(wasm.len());
                wasm.splice(at..at, bytes.iter().copied());
            }
            Damage::Remove(at, len) => {
                let at = at.index(wasm.len());
                wasm.drain(at..(at + len).min(wasm.len()));
            }
            Damage::Swap(one, other) => change_sections(wasm, |all| {
                let (one, other) = (one.index(all.len()), other.index(all.len()));
                all.swap(one, other);
            }),
            Damage::Twice(at) => change_sections(wasm, |all| {
                let at = at.index(all.len());
                all.insert(at, all[at].clone());
            }),
        }
    }
}

/// Head and sections: an id, a length as LEB128, and so many bytes. What cannot be read so stays as it is.
fn change_sections(wasm: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let (mut sections, mut at) = (Vec::new(), 8);
    while at < wasm.len() {
        let (mut len, mut shift, mut end) = (0usize, 0, at + 1);
        loop {
            let Some(byte) = wasm.get(end) else { return };
            len |= usize::from(byte & 0x7f) << shift;
            (shift, end) = (shift + 7, end + 1);
            if byte & 0x80 == 0 || shift > 28 {
                break;
            }
        }
        let Some(section) = wasm.get(at..end.saturating_add(len)) else { return };
        sections.push(section.to_vec());
        at = end + len;
    }
    if !sections.is_empty() {
        change(&mut sections);
        wasm.truncate(8);
        sections.iter().for_each(|section| wasm.extend_from_slice(section));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_modules_of_real_toolchains_do_no_harm(which in any::<Index>(), all in prop::collection::vec(damage(), 1..4)) {
        let mut wasm = REAL[which.index(REAL.len())].to_vec();
        all.iter().for_each(|damage| damage.happen(&mut wasm));
        survive(&wasm);
    }
}
