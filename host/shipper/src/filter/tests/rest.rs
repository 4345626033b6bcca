//! Instances that are put to rest or replaced, and lines that are held for too long.

use super::bench::{Bench, End};
use super::fake::{Fake, armed};
use crate::filter::RestWhy;
use crate::model::{HeldPlan, OnError};
use std::time::{Duration, Instant};

fn starts(bench: &Bench) -> u32 {
    bench.world.lock().expect("no panic").starts
}

fn rest(bench: &mut Bench) -> bool {
    let now = Instant::now();
    bench.chain.rest(&mut bench.ledger, now, RestWhy::Idle);
    !bench.chain.has_instances()
}

#[test]
fn a_filter_at_rest_has_no_instance_and_goes_on_with_what_it_knew() {
    let mut bench =
        Bench::new(&[Fake { has_state: true, ..Fake::default() }, Fake { has_state: true, ..Fake::default() }]);
    assert_eq!(bench.feed(&["kk1", "hk2", "kh3"]), End::Done);
    assert!(bench.chain.has_instances() && rest(&mut bench));
    assert_eq!((starts(&bench), bench.chain.oldest_held()), (2, Some(4)), "the mark waits as before");
    let snapshot = bench.chain.snapshot(&mut bench.ledger).expect("it is saved").expect("all of it");
    assert_eq!((snapshot.len(), starts(&bench)), (2, 2), "what is saved needs no instance to be saved again");
    assert_eq!(bench.feed(&["rk4", "kr5"]), End::Done);
    assert_eq!((bench.texts(), starts(&bench)), (vec!["kk1", "hk2+rk4", "kh3+kr5"], 4));
}

#[test]
fn a_filter_that_cannot_save_is_not_put_to_rest() {
    let mut bench = Bench::new(&[Fake::default()]);
    assert_eq!(bench.feed(&["h1"]), End::Done);
    rest(&mut bench);
    assert!(!bench.chain.has_instances(), "nothing there that could be put to rest");
    assert_eq!((bench.feed(&["r2"]), bench.texts(), starts(&bench)), (End::Done, vec!["h1+r2"], 1));
}

#[test]
fn a_filter_with_ticks_rests_when_time_changes_nothing_and_is_ticked_now_and_then() {
    let mut bench = Bench::new(&[Fake { has_state: true, ticks: true, ..Fake::default() }]);
    assert_eq!(bench.feed(&["h1"]), End::Done);
    bench.world.lock().expect("no panic").ticks_wait = true;
    for _ in 0..3 {
        assert_eq!(bench.tick(), End::Done);
        assert!(!rest(&mut bench), "a tick will let go of what it holds, and soon");
    }
    bench.world.lock().expect("no panic").ticks_wait = false;
    assert_eq!((bench.tick(), bench.texts()), (End::Done, vec!["h1"]));
    assert!(!rest(&mut bench), "whether time changes it is not known yet");
    assert_eq!(bench.tick(), End::Done);
    assert!(rest(&mut bench), "a tick changed nothing");
    let due = bench.chain.tick_due().expect("it is still ticked");
    assert!(due > Instant::now() + super::super::rest::RESTING_TICK / 2, "but rarely");
    assert_eq!((starts(&bench), bench.tick(), starts(&bench)), (1, End::Done, 2));
    assert!(bench.chain.tick_due().expect("as it wants") <= Instant::now() + Duration::from_secs(1));
    assert!(rest(&mut bench));
    assert_eq!(bench.ledger.filters[0].rests, 2);
    assert_eq!((bench.feed(&["h2", "r3"]), bench.texts()), (End::Done, vec!["h1", "h2+r3"]));
}

#[test]
fn where_there_are_too_many_instances_a_filter_with_ticks_rests_at_once_unless_it_holds_a_line() {
    let mut bench = Bench::new(&[Fake { has_state: true, ticks: true, ..Fake::default() }]);
    let too_many = |bench: &mut Bench| {
        bench.chain.rest(&mut bench.ledger, Instant::now(), RestWhy::TooMany);
        bench.chain.instances()
    };
    assert_eq!(bench.feed(&["h1"]), End::Done);
    assert_eq!(too_many(&mut bench), 1);
    assert_eq!(bench.feed(&["r2"]), End::Done);
    assert_eq!(too_many(&mut bench), 0);
    assert!(bench.chain.tick_due().is_some(), "it is still ticked");
    assert_eq!((bench.feed(&["h3", "r4"]), bench.texts()), (End::Done, vec!["h1+r2", "h3+r4"]));
}

#[test]
fn a_filter_that_fails_while_it_is_put_to_rest_loses_nothing() {
    for what in ["save", "load", "start"] {
        let mut bench = Bench::new(&[Fake { has_state: true, ..Fake::default() }]);
        assert_eq!(bench.feed(&["h1", "k2"]), End::Done);
        let fail = |bench: &Bench| {
            let mut world = bench.world.lock().expect("no panic");
            match what {
                "save" => world.save_faults = 1,
                "load" => world.load_faults = 1,
                _ => world.start_faults = 1,
            }
        };
        fail(&bench);
        rest(&mut bench);
        let mut end = bench.feed(&["k3"]);
        while end != End::Done {
            end = bench.drive();
        }
        assert_eq!(bench.feed(&["r4"]), End::Done);
        assert_eq!(bench.texts(), ["k2", "k3", "h1+r4"], "{what}");
    }
}

#[test]
fn an_instance_that_has_grown_is_replaced_and_its_state_handed_over() {
    for stateless in [true, false] {
        let fake = Fake { stateless, has_state: !stateless, memory: true, ..Fake::default() };
        let mut bench = Bench::new(&[fake]);
        // A fake grows by a MiB with each call, and may have 64.
        for _ in 0..200 {
            assert_eq!(bench.feed(&["h1", "k2"]), End::Done);
        }
        let (starts, recycles) = (starts(&bench), bench.ledger.filters[0].recycles);
        assert_eq!((starts, recycles), (5, 4), "stateless: {stateless}");
        assert_eq!(bench.ledger.filters[0].faults_total(), 0);
        if !stateless {
            assert_eq!(bench.chain.pending().lines, 200, "it still holds all of its lines");
            assert_eq!(bench.feed(&["r3"]), End::Done);
            assert_eq!(bench.chain.pending().lines, 0);
        }
    }
}

#[test]
fn a_swap_while_one_filter_is_called_in_is_no_end_of_the_file_for_the_others() {
    let held = HeldPlan { time: Duration::from_secs(60), ..HeldPlan::STANDARD };
    let first = Fake { name: "a", held, ..Fake::default() };
    let second = Fake { name: "b", ..Fake::default() };
    let mut bench = Bench::new(&[first.clone(), second.clone()]);
    assert_eq!(bench.feed(&["hk1", "kh2"]), End::Done);
    bench.world.lock().expect("no panic").flush_faults = 1;
    bench.chain.call_in(Instant::now() + Duration::from_secs(61));
    assert!(matches!(bench.drive(), End::Blocked { .. }));
    let better = armed(&[Fake { version: 1, ..first }, second], &bench.world);
    bench.chain.swap(better, &mut bench.shared, &mut bench.ledger).expect("it starts");
    assert_eq!((bench.drive(), bench.texts()), (End::Done, vec![]), "both hold what they held");
    assert_eq!(bench.chain.oldest_held(), Some(0));
}

#[test]
fn a_filter_whose_ticks_or_saves_fail_every_time_is_asked_less_and_less_often() {
    let mut bench = Bench::new(&[Fake { has_state: true, ticks: true, ..Fake::default() }]);
    assert_eq!(bench.feed(&["h1"]), End::Done);
    bench.world.lock().expect("no panic").ticks_fail = true;
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 256] {
        let before = Instant::now();
        assert_eq!(bench.tick(), End::Done);
        // The instance that comes next does not bring its ticks forward.
        assert_eq!(bench.feed(&["k2"]), End::Done);
        let (due, wait) = (bench.chain.tick_due().expect("it is ticked"), Duration::from_secs(wait));
        assert!(due >= before + wait && due <= Instant::now() + wait, "{:?}", due - before);
    }
    bench.world.lock().expect("no panic").ticks_fail = false;
    assert_eq!(bench.tick(), End::Done);
    assert!(bench.chain.tick_due().expect("it is ticked") <= bench.now + Duration::from_secs(1));

    let mut bench = Bench::new(&[Fake { has_state: true, ..Fake::default() }]);
    bench.world.lock().expect("no panic").save_faults = u32::MAX;
    for _ in 0..1_000 {
        assert_eq!(bench.feed(&["k1"]), End::Done);
    }
    assert!(starts(&bench) < 10, "{} starts", starts(&bench));
}

#[test]
fn lines_that_are_held_for_too_long_are_called_in() {
    let held = HeldPlan { time: Duration::from_secs(60), ..HeldPlan::STANDARD };
    // Whether it lets go when asked; what becomes of the lines when it does not.
    let cases = [
        (true, OnError::Block, End::Done, vec!["k3", "h1+h2"], 0),
        (false, OnError::Block, End::Blocked { line: 0, stage: 0 }, vec!["k3"], 0),
        (false, OnError::Pass, End::Done, vec!["k3", "h1", "h2"], 0),
        (false, OnError::Drop, End::Done, vec!["k3"], 2),
    ];
    for (finish, on_error, end, texts, dropped) in cases {
        let mut bench = Bench::new(&[Fake { finish, ticks: false, on_error, held, ..Fake::default() }]);
        assert_eq!(bench.feed(&["h1", "h2", "k3"]), End::Done);
        let soon = Instant::now();
        assert!(!bench.chain.is_overdue(soon));
        let late = soon + Duration::from_secs(61);
        assert!(bench.chain.is_overdue(late));
        bench.chain.call_in(late);
        assert_eq!(bench.drive(), end, "{on_error:?}");
        assert_eq!((bench.texts(), bench.dropped.lines), (texts, dropped), "{on_error:?}");
        assert_eq!(bench.chain.oldest_held().is_some(), end != End::Done);
        assert_eq!(bench.ledger.filters[0].faults_total(), u64::from(!finish));
    }
}
