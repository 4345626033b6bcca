//! Modules built with versions 1.0.0 and 1.1.0 of the contract load, answer and hold as on the day they were built. They are never
//! built again: when a test here fails, the engine broke every filter there is (docs/contract.md, "How it grows").

use crate::support::{LIMITS, expect_fault, expect_start_fault, load, origin, run, shown, surroundings};
use std::collections::BTreeSet;
use tailmill_engine::{FaultKind, Instance, Outcome, Output, Released, World};

const BATCH: &[u8] = include_bytes!("../frozen/v1-batch.wasm");
const LINE: &[u8] = include_bytes!("../frozen/v1-line.wasm");
const PLAIN: &[u8] = include_bytes!("../frozen/v1-plain.wasm");
const LINE_1_1: &[u8] = include_bytes!("../frozen/v1.1-line.wasm");
const CORE_1_1: &[u8] = include_bytes!("../frozen/v1.1-core.wasm");
const CONTRACT: &str = include_str!("../../../../wit/filter.wit");
const FROZEN_CONTRACTS: [&str; 2] = [include_str!("../frozen/v1.wit"), include_str!("../frozen/v1.1.wit")];

fn started(wasm: &[u8], config: &str) -> Instance {
    load(wasm).start(config, &LIMITS, &surroundings(), false).expect("a start")
}

#[track_caller]
fn check(instance: &mut Instance, first: u64, lines: &[&str], wanted: &str, held: Option<u64>) {
    let answer = run(instance, first, lines).expect("an answer");
    assert_eq!((shown(&answer.outcome).as_str(), answer.oldest_held), (wanted, held), "{lines:?}");
}

fn text(released: Released) -> String {
    released.output.map_or("nothing".to_owned(), |output| shown(&Outcome::Emit(output)))
}

#[test]
fn the_frozen_modules_are_the_ones_that_were_frozen() {
    for (wasm, digest) in [
        (BATCH, "sha256:cb77306e280478f63895e01559c3b22029a80fb35af6d22e5c396619329c605b"),
        (LINE, "sha256:f629196a26ec9c72d5a775009abccb2ce80deffc99b8411318005f2fad485158"),
        (PLAIN, "sha256:06714fd1cc5049389f495f14406eded09886ac561701231e66e590083dde9556"),
        (LINE_1_1, "sha256:05c29e2cd037f1618815dd5f090713d7b1f2803829681a6d4d716ef5baf308c6"),
        (CORE_1_1, "sha256:65a2cfc30b931a6ce2405d47980a18d2ed45cb594407e122c9a5085b6783fad0"),
    ] {
        assert_eq!(load(wasm).digest().to_string(), digest);
    }
}

#[test]
fn worlds_and_interfaces_are_still_recognised() {
    let batch = load(BATCH);
    assert_eq!(batch.world(), World::Batch);
    assert!(batch.has_ticks() && batch.has_finish() && batch.has_state());
    for line in [load(LINE), load(PLAIN)] {
        assert_eq!(line.world(), World::Line);
        assert!(!line.has_ticks() && !line.has_finish() && !line.has_state());
    }
    let named =
        |names: &[&str]| names.iter().map(|name| format!("tailmill:filter/{name}@1.0.0")).collect::<BTreeSet<_>>();
    assert_eq!(BTreeSet::from_iter(batch.imports()), named(&["host", "origin", "types"]));
    assert_eq!(BTreeSet::from_iter(batch.exports()), named(&["batch", "finish", "state", "ticks"]));
    assert_eq!(BTreeSet::from_iter(load(LINE).imports()), named(&["host", "origin"]));
    assert_eq!(load(LINE).exports(), ["tailmill:filter/line@1.0.0"]);
}

#[test]
fn every_outcome_of_a_batch_arrives() {
    let mut instance = started(BATCH, "{}");
    check(&mut instance, 5, &["k", "", "say nothing"], "keep all", None);
    check(&mut instance, 8, &["d", "d"], "drop all", None);
    check(&mut instance, 10, &["k", "d", "k", "d", "k", "k", "k", "k", "d", "k"], "keep 0 2 4 5 6 7 9", None);
    check(&mut instance, 20, &["k", "ea,b", "d", "k"], "20:k 21:a 21:b 23:k", None);
    check(&mut instance, 24, &["e"], "24:", None);
}

#[test]
fn what_goes_with_a_line_arrives() {
    let mut instance = started(BATCH, "{}");
    let answer = run(&mut instance, 7, &["ea,b,c,d,e", "k"]).expect("an answer");
    let Outcome::Emit(output) = answer.outcome else { panic!("{:?}", answer.outcome) };
    assert_eq!(output.sources, [7, 7, 7, 7, 7, 8]);
    assert_eq!(output.topics, [0, 0, 1, 0, 0, 0]);
    let never = i64::MIN;
    assert_eq!(output.timestamps_ms, [never, never, never, 1_700_000_000_003, never, never]);
    let Output { keys, headers, .. } = &output;
    let values = |column: &tailmill_engine::Column| -> Vec<Option<String>> {
        (0..6).map(|i| column.get(i).map(|value| String::from_utf8_lossy(value).into_owned())).collect()
    };
    let only = |at: usize, value: &str| (0..6).map(|i| (i == at).then(|| value.to_owned())).collect::<Vec<_>>();
    assert_eq!(keys.as_ref().map(values), Some(only(1, "key of b")));
    assert_eq!(
        headers.iter().map(|h| (h.name.as_str(), values(&h.values))).collect::<Vec<_>>(),
        [("part", only(4, "4"))]
    );
}

#[test]
fn lines_are_held_and_let_go_by_a_line_a_tick_and_a_flush() {
    let mut instance = started(BATCH, r#"{"ticking": true}"#);
    assert_eq!(instance.every_ms(), Ok(Some(250)));
    check(&mut instance, 0, &["k", "hold"], "0:k", Some(1));
    check(&mut instance, 2, &["h2", "k"], "3:k", Some(1));
    check(&mut instance, 4, &["release"], "1:hold+h2+release", None);
    check(&mut instance, 5, &["h3"], "", Some(5));
    assert_eq!(text(instance.tick(&origin()).expect("a tick")), "5:tick:h3");
    assert_eq!(text(instance.tick(&origin()).expect("a tick")), "5:tick:6 seen");
    check(&mut instance, 6, &["h4", "h5"], "", Some(6));
    let released = instance.flush(&origin()).expect("a flush");
    let keys = released.output.as_ref().and_then(|output| output.keys.as_ref()).expect("keys");
    assert_eq!((keys.get(0), keys.get(1)), (Some(b"flush".as_slice()), Some(b"flush".as_slice())));
    assert_eq!((released.oldest_held, text(released)), (None, "6:flush:h4 7:flush:h5".to_owned()));
    assert_eq!(started(BATCH, "{}").every_ms(), Ok(None));
}

#[test]
fn state_goes_over_to_a_new_instance() {
    let mut old = started(BATCH, "{}");
    check(&mut old, 40, &["k", "hold", "h2"], "40:k", Some(41));
    let saved = old.save().expect("a save").expect("a state");
    assert_eq!(String::from_utf8_lossy(&saved), "3 43\n41 hold\n42 h2");
    let mut new = started(BATCH, "{}");
    new.load_state(&saved, 43, Some(41)).expect("a load");
    check(&mut new, 43, &["r"], "41:hold+h2+r", None);
    assert_eq!(text(new.flush(&origin()).expect("a flush")), "43:flush:4 seen");
    let refused = started(BATCH, "{}").load_state(b"bad", 1, None);
    expect_fault(refused, FaultKind::Refused, "cannot read \"bad\"");
}

#[test]
fn needles_and_traits_are_heeded() {
    let mut instance = started(BATCH, r#"{"stateless": true}"#);
    assert_eq!(instance.traits().needles, [b"needle".to_vec(), b"pin".to_vec()]);
    check(&mut instance, 9, &["k", "k needle", "k", "d pin", "k pin"], "keep 1 4", None);
    assert_eq!(instance.every_ms(), Ok(None));
    let mut keeping = started(BATCH, r#"{"stateless": true, "keep_skipped": true}"#);
    check(&mut keeping, 9, &["d", "d needle", "k pin", "k"], "keep 0 2 3", None);
    check(&mut keeping, 9, &["d", "epin", "k"], "9:d 10:pin 11:k", None);
}

#[test]
fn what_a_filter_says_and_asks_is_answered() {
    let mut batch = started(BATCH, "{}");
    check(&mut batch, 0, &["o"], "0:77 node-7 /var/log/\u{fffd}.log 4096 main+errors clock stands", None);
    check(&mut batch, 1, &["say it", "say so"], "keep all", None);
    let notes = batch.take_notes();
    assert_eq!(notes.logs, [(2, "say it".to_owned()), (2, "say so".to_owned())]);
    let printed = [(1, "to stdout".to_owned()), (1, "and more".to_owned()), (2, "to stderr".to_owned())];
    assert_eq!(notes.prints, [printed.clone(), printed].concat());
    assert_eq!((notes.counters, notes.suppressed), (vec![("frozen.seen".to_owned(), 2 + 3)], 0));

    let mut line = started(LINE, "{}");
    check(&mut line, 0, &["origin"], "0:77 node-7 /var/log/\u{fffd}.log 4096 main+errors clock", None);
    check(&mut line, 1, &["say it"], "keep all", None);
    let notes = line.take_notes();
    assert_eq!((notes.logs, notes.prints), (vec![(1, "say it".to_owned())], vec![(2, "printed".to_owned())]));
    assert_eq!(notes.counters, [("frozen.lines".to_owned(), 2)]);
}

#[test]
fn a_filter_of_1_1_asks_which_file_it_is_given_and_one_of_1_0_runs_beside_it() {
    let module = load(LINE_1_1);
    let named: Vec<String> = ["host", "origin"].map(|name| format!("tailmill:filter/{name}@1.1.0")).into();
    assert_eq!(BTreeSet::from_iter(module.imports()), BTreeSet::from_iter(named));
    assert_eq!(module.exports(), ["tailmill:filter/line@1.1.0"]);
    let (mut newer, mut older, mut core) = (started(LINE_1_1, "{}"), started(LINE, "{}"), started(CORE_1_1, "{}"));
    check(&mut newer, 0, &["start"], "0:inode=0 generation= line=0", None);
    for first in [0, 1] {
        let known = "77 node-7 /var/log/\u{fffd}.log 4096 main+errors";
        let of_file = format!("inode={} generation=5f0c line=100", 1u64 << 40);
        check(&mut newer, first, &["origin"], &format!("{first}:{known} {of_file}"), None);
        check(&mut older, first, &["origin"], &format!("{first}:{known} clock"), None);
        check(&mut core, first, &["generation"], &format!("{first}:5f0c"), None);
        check(&mut core, first, &[""], &format!("{first}:\0\0\0\0\0\u{1}\0\0d\0\0\0\0\0\0\0"), None);
    }
    check(&mut newer, 2, &["say"], "keep all", None);
    assert_eq!(newer.take_notes().logs, [(1, "say".to_owned())]);
}

#[test]
fn every_verdict_on_a_line_arrives() {
    let mut line = started(LINE, r#"{"a": 1}"#);
    check(&mut line, 3, &["k", "k"], "keep all", None);
    check(&mut line, 3, &["drop it", ""], "drop all", None);
    check(&mut line, 3, &["drop", "k", "drop"], "keep 1", None);
    check(&mut line, 3, &["k", "upper x", "drop", "nothing", "config"], "3:k 4:UPPER X 6: 7:{\"a\": 1}", None);
    let mut plain = started(PLAIN, "{}");
    check(&mut plain, 0, &["k", "d", ""], "keep 0 2", None);
    check(&mut plain, 3, &["k", "dx", "rest"], "3:k 5:est", None);
    expect_fault(run(&mut plain, 6, &["xyz"]), FaultKind::Refused, "xyz");
}

#[test]
fn a_fault_names_its_line_and_a_panic_is_a_trap() {
    for (wasm, line, named) in [(BATCH, "fault here", 51), (LINE, "fault here", 51)] {
        let fault = run(&mut started(wasm, "{}"), 50, &["k", line, "k"]).expect_err("a fault");
        assert_eq!((fault.kind, fault.line, fault.message.as_str()), (FaultKind::Refused, Some(named), line));
    }
    let fault = run(&mut started(BATCH, "{}"), 50, &["f"]).expect_err("a fault");
    assert_eq!((fault.kind, fault.line), (FaultKind::Refused, None));
    for wasm in [BATCH, LINE] {
        expect_fault(run(&mut started(wasm, "{}"), 0, &["trap"]), FaultKind::Trap, "unreachable");
        let start = load(wasm).start("{\"refuse\": 1}", &LIMITS, &surroundings(), false);
        expect_start_fault(start, FaultKind::Refused, "refused: {\"refuse\": 1}");
    }
}

/// What stands in the braces behind `head`, without comments, spaces evened.
fn block(text: &str, head: &str) -> String {
    let bare: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let even = bare.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, behind) = even.split_once(&format!("{head} {{")).unwrap_or_else(|| panic!("there is no {head}"));
    let mut depth = 1;
    let is_end = |byte: char| {
        depth += i32::from(byte == '{') - i32::from(byte == '}');
        depth == 0
    };
    behind[..behind.find(is_end).expect("an end")].trim().to_owned()
}

/// Functions may be added where the host gives; where it takes, nothing may.
#[test]
fn the_contract_grows_by_its_rule() {
    FROZEN_CONTRACTS.into_iter().for_each(grew_from);
}

fn grew_from(frozen: &str) {
    for interface in ["types", "batch", "ticks", "finish", "state", "line"] {
        let head = format!("interface {interface}");
        assert_eq!(block(CONTRACT, &head), block(frozen, &head), "{head}");
    }
    for head in
        ["interface host", "interface origin", "world batch-filter", "world stateful-batch-filter", "world line-filter"]
    {
        let now = block(CONTRACT, head);
        let gone: Vec<_> =
            block(frozen, head).split(';').filter(|old| !now.contains(old.trim())).map(str::to_owned).collect();
        assert!(gone.is_empty(), "{head} has lost {gone:?}");
    }
}
