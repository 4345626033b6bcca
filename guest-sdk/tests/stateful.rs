//! `#[filter]` on `impl Filter`: held lines, where a joined line came from, ticks, flush, state.

use tailmill_filter::prelude::*;
use tailmill_filter::testing::{self, Sent};

/// Collects lines until one ends in `;`, and lets them go as one. `now` lets go what is held, one by one.
struct Collect {
    state: State,
}

#[derive(Default, Serialize, Deserialize)]
struct State {
    pending: Vec<Pending>,
}

#[derive(Serialize, Deserialize)]
struct Pending {
    held: Held,
    #[serde(with = "tailmill_filter::state::bytes")]
    line: Vec<u8>,
}

impl Collect {
    fn joined(&mut self) -> Vec<u8> {
        let pending = std::mem::take(&mut self.state.pending);
        pending.iter().flat_map(|pending| pending.line.iter().copied()).collect()
    }
}

#[filter(state = state)]
impl Filter for Collect {
    type Config = NoConfig;

    fn start(_: NoConfig) -> Result<Self, String> {
        Ok(Collect { state: State::default() })
    }

    fn line(&mut self, line: &[u8], ctx: &mut Ctx) -> Result<Verdict, String> {
        Ok(match line {
            b"now" => {
                for pending in self.state.pending.drain(..) {
                    ctx.emit_from(&pending.held, &pending.line);
                }
                Verdict::Keep
            }
            b"lost" => {
                self.state.pending.clear();
                Verdict::Drop
            }
            b"forget" => {
                let _ = ctx.hold();
                Verdict::Hold
            }
            b"pass" => Verdict::Keep,
            _ if line.ends_with(b";") => {
                let mut joined = self.joined();
                joined.extend_from_slice(line);
                Verdict::Replace(joined)
            }
            _ => {
                self.state.pending.push(Pending { held: ctx.hold(), line: line.to_vec() });
                Verdict::Hold
            }
        })
    }

    fn every_ms(&self) -> u32 {
        250
    }

    fn tick(&mut self, ctx: &mut Ctx) -> Result<(), String> {
        if !self.state.pending.is_empty() {
            let joined = self.joined();
            ctx.emit(&joined).key(b"tick");
        }
        Ok(())
    }

    fn flush(&mut self, ctx: &mut Ctx) -> Result<(), String> {
        for pending in self.state.pending.drain(..) {
            ctx.emit_from(&pending.held, &pending.line);
        }
        Ok(())
    }
}

fn show(sent: &[Sent]) -> Vec<String> {
    sent.iter().map(|sent| format!("{}@{}", sent.text(), sent.source)).collect()
}

/// Each batch: lines, what comes out as `line@source`, and the oldest line held after it.
fn check(batches: &[(&[&str], &[&str], Option<u64>)]) {
    let mut tester = testing::start::<Collect>("{}").expect("start");
    for (lines, wanted, oldest) in batches {
        let sent = tester.run(lines).expect("no fault");
        assert_eq!((show(&sent).as_slice(), tester.oldest_held()), (own(wanted).as_slice(), *oldest), "{lines:?}");
    }
}

fn own(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn a_joined_line_comes_from_its_oldest_part() {
    check(&[(&["a", "b;"], &["ab;@0"], None)]);
    check(&[(&["a"], &[], Some(0)), (&["b"], &[], Some(0)), (&["c;"], &["abc;@0"], None)]);
    check(&[(&["x;", "a"], &["x;@0"], Some(1)), (&["pass", "b;", "pass"], &["pass@2", "ab;@1", "pass@4"], None)]);
}

#[test]
fn held_lines_let_go_together_keep_their_own_sources() {
    check(&[(&["a", "b"], &[], Some(0)), (&["c", "now", "d"], &["a@0", "b@1", "c@2", "now@3"], Some(4))]);
}

#[test]
fn a_line_that_was_let_go_in_silence_is_not_the_source_of_a_later_one() {
    check(&[(&["a", "lost", "x;"], &["x;@2"], None)]);
}

#[test]
fn a_filter_that_forgets_its_held_line_is_told_so() {
    let mut tester = testing::start::<Collect>("{}").expect("start");
    let fault = tester.run(&["pass", "forget"]).expect_err("nothing is held");
    assert_eq!(fault.line, Some(1));
}

#[test]
fn ticks_and_flushes_let_go() {
    let mut tester = testing::start::<Collect>("{}").expect("start");
    assert_eq!(tester.every_ms(), 250);
    assert_eq!(tester.tick(), Ok(vec![]));
    tester.run(&["pass", "a", "b"]).expect("no fault");
    let sent = tester.tick().expect("no fault");
    assert_eq!((show(&sent), tester.oldest_held()), (own(&["ab@1"]), None));
    assert_eq!(sent[0].key.as_deref(), Some(&b"tick"[..]));
    tester.run(&["c", "d"]).expect("no fault");
    let sent = tester.flush().expect("no fault");
    assert_eq!((show(&sent), tester.oldest_held()), (own(&["c@3", "d@4"]), None));
}

#[test]
fn state_carries_held_lines_to_a_new_instance() {
    let mut tester = testing::start::<Collect>("{}").expect("start");
    tester.run(&["pass", "\u{fc}", "b"]).expect("no fault");
    assert_eq!(
        tester.save().as_deref(),
        Ok("3\n{\"pending\":[{\"held\":1,\"line\":\"Ã¼\"},{\"held\":2,\"line\":\"b\"}]}".as_bytes())
    );
    tester.reload("{}").expect("reload");
    let sent = tester.run(&["c;"]).expect("no fault");
    assert_eq!((show(&sent), tester.oldest_held()), (own(&["\u{fc}bc;@1"]), None));
    assert!(tester.load(b"{}").is_err_and(|error| error.contains("not saved by this SDK")));
    assert!(tester.load(b"0\n{}").is_err_and(|error| error.starts_with("while loading the state: missing field")));
}

#[test]
fn the_answer_does_not_depend_on_how_lines_are_batched() {
    let lines = ["a", "b;", "pass", "c", "d", "now", "e;", "f"];
    assert_eq!(testing::texts::<Collect>("{}", lines), ["ab;", "pass", "c", "d", "now", "e;", "f"]);
}

/// Holds nothing: says at each tick how many lines it saw.
struct Summary {
    seen: u64,
}

#[filter(state = seen)]
impl Filter for Summary {
    type Config = NoConfig;

    fn start(_: NoConfig) -> Result<Self, String> {
        Ok(Summary { seen: 0 })
    }

    fn line(&mut self, _line: &[u8], _ctx: &mut Ctx) -> Result<Verdict, String> {
        self.seen += 1;
        Ok(Verdict::Drop)
    }

    fn tick(&mut self, ctx: &mut Ctx) -> Result<(), String> {
        ctx.emit(format!("{} lines", self.seen).as_bytes());
        Ok(())
    }
}

#[test]
fn what_a_tick_emits_without_holding_comes_from_the_last_line() {
    let mut tester = testing::start::<Summary>("{}").expect("start");
    tester.run(&["a", "b", "c"]).expect("no fault");
    assert_eq!(tester.tick().map(|sent| show(&sent)), Ok(own(&["3 lines@2"])));
    tester.reload("{}").expect("reload");
    assert_eq!(tester.tick().map(|sent| show(&sent)), Ok(own(&["3 lines@2"])));
}
