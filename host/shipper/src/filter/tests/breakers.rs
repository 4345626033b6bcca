//! A filter that fails on most of its lines is left alone for a while.

use super::bench::{Bench, End};
use super::fake::{Fake, Shared, armed};
use crate::filter::What;
use crate::model::{BreakerPlan, BreakerThen, OnError};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

fn breaker(then: BreakerThen, rest: Duration) -> Option<BreakerPlan> {
    Some(BreakerPlan { faults: 3, within: LONG, percent: 50, rest, then })
}

fn fake(on_error: OnError, then: BreakerThen, rest: Duration) -> Fake {
    Fake { on_error, breaker: breaker(then, rest), stateless: true, ..Fake::default() }
}

fn news(bench: &mut Bench) -> Vec<String> {
    let said = |what| match what {
        What::BreakerOpened { faults, then, .. } => Some(format!("opened after {faults}: {then:?}")),
        What::BreakerClosed => Some("closed".to_owned()),
        What::Fault(_) | What::MoreFaults(_) | What::Notes(_) | What::Grown => None,
    };
    bench.chain.take_events().into_iter().filter_map(|event| said(event.what)).collect()
}

#[test]
fn a_filter_that_fails_too_often_holds_its_lines_and_judges_no_more_of_them() {
    for (stateless, on_error) in [(true, OnError::Drop), (false, OnError::Drop), (false, OnError::DeadLetter)] {
        let mut bench = Bench::new(&[Fake { stateless, ..fake(on_error, BreakerThen::Hold, LONG) }]);
        assert_eq!(bench.feed(&["k0", "x1", "x2", "x3", "x4", "k5"]), End::Blocked { line: 9, stage: 0 });
        assert_eq!(news(&mut bench), ["opened after 3: Hold"]);
        assert_eq!(bench.texts(), ["k0"]);
        assert_eq!(bench.dropped.lines + bench.dead.len() as u64, 2, "the line that opened it waits");
        assert_eq!(bench.chain.pending().lines, 3);
        let runs = bench.runs();
        assert_eq!(bench.drive(), End::Blocked { line: 9, stage: 0 });
        assert_eq!(bench.runs(), runs, "it is not asked");
    }
}

#[test]
fn what_fails_now_and_then_keeps_its_policy() {
    let mut bench = Bench::new(&[fake(OnError::Drop, BreakerThen::Hold, LONG)]);
    for _ in 0..20 {
        assert_eq!(bench.feed(&["x1", "k2", "k3", "k4", "x5", "k6"]), End::Done);
    }
    assert_eq!((bench.dropped.lines, bench.texts().len()), (40, 80));
}

#[test]
fn a_filter_that_works_again_is_used_again() {
    let mut bench = Bench::new(&[fake(OnError::Drop, BreakerThen::Hold, Duration::ZERO)]);
    // Without any rest it is half open at once, and on its guard: one more line is judged, the next opens it again.
    assert_eq!(bench.feed(&["x1", "x2", "x3", "x4", "x5", "k6", "k7", "k8"]), End::Blocked { line: 6, stage: 0 });
    assert_eq!(bench.drive(), End::Blocked { line: 9, stage: 0 });
    bench.world.lock().expect("no panic").heal_all = true;
    assert_eq!((bench.drive(), bench.texts()), (End::Done, vec!["x4", "x5", "k6", "k7", "k8"]));
    let news = news(&mut bench);
    assert_eq!((news.first(), news.last()), (Some(&"opened after 3: Hold".to_owned()), Some(&"closed".to_owned())));
}

#[test]
fn lines_go_past_a_filter_that_fails_too_often_where_the_entry_wants_that() {
    let mut bench = Bench::new(&[fake(OnError::Pass, BreakerThen::Bypass, LONG), Fake::default()]);
    assert_eq!(bench.feed(&["kk", "x1", "x2", "x3", "d4", "x5"]), End::Done);
    assert_eq!(bench.texts(), ["kk", "x1", "x2", "x3", "d4", "x5"]);
    assert_eq!(news(&mut bench), ["opened after 3: Bypass"]);
    let runs = bench.runs();
    assert_eq!(bench.feed(&["d6", "xd"]), End::Done);
    assert_eq!(bench.texts()[6..], ["d6"], "the next filter of the chain is asked");
    assert_eq!((bench.runs() - runs, bench.passed_lines), (1, 7));
    assert_eq!(
        bench.ledger.filters.iter().map(|f| (f.breaker_opened, f.bypassed)).collect::<Vec<_>>(),
        [(1, 5), (0, 0)]
    );
}

#[test]
fn lines_that_it_held_go_before_those_that_go_past_it() {
    for has_state in [false, true] {
        let filter = Fake { stateless: false, has_state, ..fake(OnError::Pass, BreakerThen::Bypass, LONG) };
        let mut bench = Bench::new(&[filter]);
        assert_eq!(bench.feed(&["h1", "h2"]), End::Done);
        assert_eq!(bench.feed(&["x3", "x4", "x5", "h6", "x7"]), End::Done);
        assert_eq!(bench.texts(), ["x3", "x4", "h1", "h2", "x5", "h6", "x7"], "state: {has_state}");
        assert_eq!(bench.chain.pending().lines, 0);
        // What it knew is gone with it; a flush or a snapshot finds nothing to wait for.
        bench.chain.flush();
        assert_eq!((bench.drive(), bench.texts().len()), (End::Done, 7));
    }
}

#[test]
fn lines_that_are_in_a_restored_state_only_are_waited_for_whatever_the_entry_wants() {
    let filter = Fake { stateless: false, has_state: true, ..fake(OnError::Pass, BreakerThen::Bypass, LONG) };
    let mut bench = Bench::new(&[filter]);
    assert_eq!(bench.feed(&["h1"]), End::Done);
    let mut bench = bench.restarted();
    assert_eq!(bench.feed(&["x2", "x3", "x4"]), End::Blocked { line: 9, stage: 0 });
    assert_eq!((bench.texts(), bench.chain.oldest_held()), (vec!["x2", "x3"], Some(0)));
}

#[test]
fn a_filter_that_does_not_start_is_passed_by_where_the_entry_wants_that() {
    for (then, end) in [(BreakerThen::Bypass, End::Done), (BreakerThen::Hold, End::Blocked { line: 0, stage: 0 })] {
        for stateless in [true, false] {
            let mut bench = Bench::new(&[Fake { stateless, ..fake(OnError::Pass, then, LONG) }]);
            bench.world.lock().expect("no panic").start_faults = 1;
            assert_eq!(bench.feed(&["d1", "d2"]), end);
        }
    }
}

#[test]
fn streams_of_an_entry_have_one_breaker_and_a_new_module_has_its_own() {
    let world = Shared::default();
    let bad = fake(OnError::Drop, BreakerThen::Hold, LONG);
    let mut one = Bench::with(armed(std::slice::from_ref(&bad), &world), world.clone());
    assert_eq!(one.feed(&["x1", "x2", "x3"]), End::Blocked { line: 6, stage: 0 });
    let mut two = Bench::with(one.chain.armed().clone(), world.clone());
    std::mem::swap(&mut one.shared, &mut two.shared);
    assert_eq!(two.feed(&["k1"]), End::Blocked { line: 0, stage: 0 });
    let better = armed(&[Fake { version: 1, ..bad }], &world);
    two.chain.swap(better, &mut two.shared, &mut two.ledger).expect("it starts");
    assert_eq!((two.drive(), two.texts()), (End::Done, vec!["k1"]));
}
