//! New plans in a running chain, snapshots, and going on from them.

// Lists of one filter read like lists of several.
#![allow(clippy::cloned_ref_to_slice_refs)]

use super::bench::{Bench, End};
use super::fake::{Fake, armed};
use crate::filter::SharedInstances;
use crate::model::OnError;

fn named(name: &'static str) -> Fake {
    Fake { name, ..Fake::default() }
}

fn saving(name: &'static str) -> Fake {
    Fake { has_state: true, ..named(name) }
}

fn newer(fake: &Fake) -> Fake {
    Fake { version: fake.version + 1, ..fake.clone() }
}

fn stateless(name: &'static str) -> Fake {
    Fake { stateless: true, ..named(name) }
}

fn swap(bench: &mut Bench, fakes: &[Fake]) -> Result<(), String> {
    let armed = armed(fakes, &bench.world);
    bench.chain.swap(armed, &mut bench.shared, &mut bench.ledger).map_err(|fault| fault.message)
}

/// Lines, then a swap, then lines and a flush: these records come out, none missing, none twice.
fn check(old: &[Fake], before: &[&str], new: &[Fake], after: &[&str], records: &[&str]) {
    for one_call_a_step in [false, true] {
        let mut bench = Bench::new(old);
        bench.one_call_a_step = one_call_a_step;
        assert_eq!(bench.feed(before), End::Done);
        swap(&mut bench, new).expect("the new chain starts");
        assert_eq!(bench.drive(), End::Done);
        assert_eq!(bench.feed(after), End::Done);
        assert_eq!(bench.flush(), End::Done);
        assert_eq!(bench.texts(), records, "{old:?} became {new:?}");
        assert!(bench.chain.pending().is_zero() && bench.chain.oldest_held().is_none());
    }
}

#[test]
fn a_filter_that_says_the_same_keeps_its_instance() {
    let mut bench = Bench::new(&[named("a")]);
    bench.feed(&["h1"]);
    swap(&mut bench, &[named("a")]).expect("nothing to do");
    bench.feed(&["r2"]);
    assert_eq!(bench.texts(), ["h1+r2"]);
    assert_eq!(bench.world.lock().expect("no panic").starts, 1);
}

#[test]
fn a_changed_filter_gets_the_state_of_the_old_one() {
    let a = saving("a");
    check(&[a.clone()], &["k1", "h2"], &[newer(&a)], &["k3", "r4"], &["k1", "k3", "h2+r4"]);
}

#[test]
fn a_changed_filter_without_state_gets_the_held_lines_as_its_first_input() {
    let a = named("a");
    check(&[a.clone()], &["k1", "h2", "k3", "h4"], &[newer(&a)], &["k5", "r6"], &["k1", "k3", "k5", "h2+h4+r6"]);
    check(&[a.clone()], &["h1", "k2"], &[saving("a")], &["r3"], &["k2", "h1+r3"]);
    check(&[saving("a")], &["h1", "k2"], &[a], &["r3"], &["k2", "h1+r3"]);
    check(&[named("a")], &["h1", "k2"], &[stateless("a")], &["k3"], &["k2", "h1", "k3"]);
}

#[test]
fn held_lines_of_every_stage_survive_in_order() {
    let (a, b) = (named("a"), named("b"));
    let (new_a, new_b) = (newer(&a), newer(&b));
    let records = ["kk1", "hk3+hk4+rr5", "kh2"];
    check(&[a, b], &["kk1", "kh2", "hk3"], &[new_a, new_b], &["hk4", "rr5"], &records);
}

#[test]
fn a_filter_that_goes_lets_its_lines_go_to_the_next_one() {
    let (a, b, c) = (named("a"), stateless("b"), named("c"));
    let records = ["ks3", "ks3'", "hs1+hk2", "s4", "s4'"];
    check(&[a.clone(), b.clone()], &["hs1", "hk2", "ks3"], &[b], &["s4"], &records);
    check(&[a.clone()], &["h1", "k2"], &[], &["k3"], &["k2", "h1", "k3"]);
    // What the old chain let go has been through all of it: it is not filtered twice.
    check(&[a], &["h1", "k2"], &[c], &["r3"], &["k2", "h1", "r3"]);
}

#[test]
fn a_filter_that_comes_finds_the_others_as_they_were() {
    let (a, b) = (named("a"), stateless("b"));
    // The instance of `a` goes on reading byte 0, which is where it was started.
    check(&[a.clone()], &["h1"], &[b, a], &["d2", "r3"], &["h1+r3"]);
}

/// Scripts that the random test found: the first filter became what the second one was, and was taken for it.
#[test]
fn a_filter_that_becomes_like_another_one_of_its_name_keeps_its_place_and_its_lines() {
    let (a, b) = (saving("a"), Fake { stateless: true, ..named("a") });
    let v1 = newer(&a);
    check(&[a.clone(), v1.clone()], &["hk1", "kk2"], &[v1.clone(), v1.clone()], &["rk3"], &["kk2", "hk1+rk3"]);
    let (old, new) = ([a.clone(), b.clone(), v1.clone()], [v1.clone(), b, v1.clone()]);
    check(&old, &["hkk1", "khk2", "kkh3"], &new, &["kkr4", "rkk5"], &["khk2", "kkh3+kkr4", "hkk1+rkk5"]);
    let (old, new) = ([a.clone(), v1.clone()], [v1.clone(), newer(&v1)]);
    check(&old, &["hk1", "kh2", "kk3"], &new, &["kr4", "rk5"], &["kk3", "kh2+kr4", "hk1+rk5"]);
    // With one place less, it is the changed one that went: the other goes on with what it holds.
    check(&[a.clone(), v1.clone()], &["hk1", "kh2"], &[v1.clone()], &["kr3"], &["hk1", "kh2+kr3"]);
    check(&[v1.clone()], &["h1"], &[a.clone(), v1], &["r2", "d3"], &["h1+r2"]);
}

#[test]
fn a_new_filter_that_does_not_start_leaves_the_old_chain_in_force() {
    for old in [named("a"), saving("a"), stateless("a")] {
        let mut bench = Bench::new(&[old.clone()]);
        bench.feed(&["h1", "k2"]);
        bench.world.lock().expect("no panic").start_faults = 1;
        assert!(swap(&mut bench, &[newer(&old)]).is_err());
        assert!(bench.chain.is_idle());
        bench.feed(&["r3"]);
        let joined: &[&str] = if old.stateless { &["h1", "k2", "r3"] } else { &["k2", "h1+r3"] };
        assert_eq!(bench.texts(), joined);
    }
}

#[test]
fn a_new_filter_that_does_not_take_the_state_leaves_the_old_chain_in_force() {
    let mut bench = Bench::new(&[saving("a")]);
    bench.feed(&["h1", "k2"]);
    bench.world.lock().expect("no panic").load_faults = 1;
    assert!(swap(&mut bench, &[newer(&saving("a"))]).is_err());
    bench.feed(&["r3"]);
    assert_eq!(bench.texts(), ["k2", "h1+r3"]);
    swap(&mut bench, &[newer(&saving("a"))]).expect("this time it does");
}

#[test]
fn an_old_filter_that_cannot_save_any_more_hands_over_what_it_saved_before() {
    let mut bench = Bench::new(&[saving("a")]);
    bench.feed(&["h1"]);
    bench.chain.snapshot(&mut bench.ledger).expect("it saves");
    bench.feed(&["k2", "h3"]);
    bench.world.lock().expect("no panic").save_faults = 1;
    swap(&mut bench, &[newer(&saving("a"))]).expect("the state is older, the calls since then are repeated");
    bench.feed(&["r4"]);
    assert_eq!(bench.texts(), ["k2", "h1+h3+r4"]);
}

/// Found by the random test: the new filter was given again what had gone on, held it, and sent it once more.
#[test]
fn lines_that_went_on_before_a_fault_are_not_given_to_a_changed_filter() {
    let a = Fake { on_error: OnError::Pass, byte: Some(0), ..saving("a") };
    let other = Fake { byte: Some(1), ..a.clone() };
    check(&[a.clone()], &["hk1", "kh2", "xk3"], &[other.clone()], &["kr4"], &["kh2", "xk3", "hk1+kr4"]);
}

#[test]
fn a_filter_that_does_not_come_back_leaves_what_it_held_to_its_successor_and_nothing_else() {
    let a = Fake { on_error: OnError::Pass, ..saving("a") };
    let succeed = |mut bench: Bench, records: &[&str]| {
        bench.feed(&["x0"]);
        bench.world.lock().expect("no panic").start_faults = 1;
        swap(&mut bench, &[newer(&a)]).expect("the new one starts");
        assert_eq!(bench.drive(), End::Done);
        bench.feed(&["r9"]);
        assert_eq!((bench.texts(), bench.chain.oldest_held()), (records.to_vec(), None));
    };
    let mut bench = Bench::new(&[a.clone()]);
    bench.feed(&["h1"]);
    bench.chain.snapshot(&mut bench.ledger).expect("it saves");
    bench.feed(&["k2", "h3"]);
    succeed(bench, &["k2", "x0", "h1+h3+r9"]);
    // Its last state holds what has gone on since.
    let mut bench = Bench::new(&[a.clone()]);
    bench.feed(&["h1"]);
    bench.chain.snapshot(&mut bench.ledger).expect("it saves");
    bench.feed(&["r2", "h3"]);
    succeed(bench, &["h1+r2", "x0", "h3+r9"]);
    // A line of an earlier process is only in its state.
    let mut bench = Bench::new(&[a.clone()]);
    bench.feed(&["h1"]);
    let mut bench = bench.restarted();
    bench.feed(&["h2"]);
    bench.chain.snapshot(&mut bench.ledger).expect("it saves");
    bench.feed(&["k3", "h4"]);
    succeed(bench, &["k3", "x0", "h1+h2+h4+r9"]);
}

#[test]
fn what_gone_filters_do_not_let_go_of_goes_on_in_order() {
    // `a` fails to let go; what `b` holds is older.
    let keeps = Fake { byte: Some(2), ..stateless("b") };
    let mut bench = Bench::new(&[named("a"), named("b")]);
    bench.feed(&["khk1", "hkk2"]);
    bench.world.lock().expect("no panic").flush_faults = 1;
    swap(&mut bench, &[keeps]).expect("it starts");
    assert_eq!((bench.drive(), bench.texts()), (End::Done, vec!["khk1", "hkk2"]));
    // Lines that turn up while an instance comes back, call by call.
    let mut bench = Bench::new(&[Fake { ticks: true, ..named("a") }]);
    for line in ["n1", "n2"] {
        bench.feed(&[line]);
    }
    bench.world.lock().expect("no panic").tick_faults = 1;
    bench.tick();
    swap(&mut bench, &[]).expect("there is nothing to start");
    assert_eq!((bench.drive(), bench.texts()), (End::Done, vec!["n1", "n2"]));
}

#[test]
fn a_blocked_chain_can_be_given_a_filter_that_does_not_fail() {
    let policies = [OnError::Drop, OnError::Pass];
    for (old, on_error) in [named("a"), saving("a"), stateless("a")].into_iter().zip(policies.into_iter().cycle()) {
        let mut bench = Bench::new(&[old.clone()]);
        assert_eq!(bench.feed(&["k1", "x2", "k3"]), End::Blocked { line: 3, stage: 0 });
        swap(&mut bench, &[Fake { on_error, ..old }]).expect("it starts");
        assert_eq!(bench.drive(), End::Done);
        let passed: &[&str] = &["k1", "x2", "k3"];
        assert_eq!(bench.texts(), if on_error == OnError::Pass { passed } else { &["k1", "k3"] });
    }
}

#[test]
fn lines_that_wait_in_a_blocked_chain_find_their_place_in_one_of_another_shape() {
    let (a, b, c) = (named("a"), named("b"), named("c"));
    let mut bench = Bench::new(&[a.clone(), b, c]);
    assert_eq!(bench.feed(&["hkk1", "kkk2", "kxk3", "kkk4"]), End::Blocked { line: 10, stage: 1 });
    swap(&mut bench, &[a, named("c")]).expect("it starts");
    assert_eq!(bench.drive(), End::Done);
    bench.feed(&["rkk5"]);
    assert_eq!(bench.texts(), ["kkk2", "kxk3", "kkk4", "hkk1+rkk5"]);
}

#[test]
fn old_and_new_instance_of_a_stateless_filter_live_side_by_side_while_streams_change_over() {
    let mut one = Bench::new(&[stateless("a")]);
    let mut two = Bench::with(one.chain.armed().clone(), one.world.clone());
    let mut shared = SharedInstances::new();
    std::mem::swap(&mut one.shared, &mut shared);
    one.feed(&["k1"]);
    swap(&mut one, &[newer(&stateless("a"))]).expect("it starts");
    std::mem::swap(&mut one.shared, &mut two.shared);
    for _ in 0..3 {
        two.feed(&["k2"]);
        std::mem::swap(&mut one.shared, &mut two.shared);
        one.feed(&["k3"]);
        std::mem::swap(&mut one.shared, &mut two.shared);
    }
    assert_eq!((two.shared.len(), one.world.lock().expect("no panic").starts), (2, 2));
}

#[test]
fn a_chain_goes_on_from_a_snapshot_as_if_nothing_had_happened() {
    let mut bench = Bench::new(&[saving("a"), stateless("b"), saving("c")]);
    bench.feed(&["hkk1", "kkh2", "kkk3"]);
    let mut bench = bench.restarted();
    assert_eq!(bench.chain.oldest_held(), Some(0));
    bench.feed(&["kkk4", "rkr5", "kkk6"]);
    assert_eq!(bench.texts(), ["kkk3", "kkk4", "hkk1+rkr5", "kkk6"]);
    // The last stage holds the line at 5. It was sent the joined one, which began at 0, later, and may hold that too.
    assert_eq!(bench.chain.oldest_held(), Some(0));
    bench.feed(&["kkr7"]);
    assert_eq!(bench.texts()[4..], ["kkh2+kkr7"]);
    assert_eq!(bench.chain.oldest_held(), None);
}

/// Found by the random test: the mark would have passed the line at 0, which is in a record that said it began at 4.
#[test]
fn a_record_counts_from_its_oldest_line_also_when_that_comes_late_to_a_restored_stage() {
    let mut bench = Bench::new(&[saving("a"), saving("b")]);
    bench.feed(&["hh1", "kh2"]);
    let mut bench = bench.restarted();
    bench.feed(&["rk3"]);
    assert_eq!(bench.chain.oldest_held(), Some(0));
    bench.flush();
    assert_eq!(bench.out.iter().map(|seen| (&*seen.text, seen.source)).collect::<Vec<_>>(), [("kh2+hh1+rk3", 0)]);
    assert_eq!(bench.chain.oldest_held(), None);
}

#[test]
fn a_filter_that_got_a_state_since_a_snapshot_begins_without_one() {
    let mut bench = Bench::new(&[stateless("a"), saving("a"), stateless("b")]);
    bench.feed(&["khk1"]);
    let snapshot = bench.chain.snapshot(&mut bench.ledger).expect("it saves").expect("it can");
    let fakes = [saving("a"), Fake { byte: Some(2), ..saving("b") }];
    let (armed, at) = (armed(&fakes, &bench.world), bench.at);
    let mut bench = bench.reopened(armed, at);
    bench.chain.restore(&snapshot, at, &mut bench.ledger).expect("b starts anew");
    assert_eq!(bench.feed(&["rk2", "kk3"]), End::Done);
    assert_eq!(bench.texts(), ["khk1+rk2", "kk3"]);
}

#[test]
fn a_restored_line_needs_no_other_line_to_be_let_go_by_time() {
    for (ticks, records) in [(true, &["h1"][..]), (false, &[])] {
        let mut bench = Bench::new(&[Fake { ticks, finish: false, ..saving("a") }]);
        bench.feed(&["h1"]);
        let snapshot = bench.chain.snapshot(&mut bench.ledger).expect("it saves").expect("it can");
        let (armed, at) = (bench.chain.armed().clone(), bench.at);
        let mut bench = bench.reopened(armed, at);
        bench.chain.restore_later(&snapshot, at).expect("nothing is started yet");
        assert_eq!((bench.chain.tick_due().is_some(), bench.chain.waits_for_tick()), (ticks, ticks));
        bench.flush();
        assert_eq!((bench.tick(), bench.texts()), (End::Done, records.to_vec()));
        assert_eq!((bench.chain.oldest_held().is_some(), bench.chain.waits_for_tick()), (!ticks, false));
    }
}

#[test]
fn a_state_that_holds_lines_finds_its_place_before_one_that_holds_none() {
    let a = saving("a");
    for (line, after, record) in [("hk1", "rk2", "hk1+rk2"), ("kh1", "rr2", "kh1+rr2")] {
        let mut bench = Bench::new(&[a.clone(), a.clone()]);
        bench.feed(&[line]);
        let snapshot = bench.chain.snapshot(&mut bench.ledger).expect("it saves").expect("it can");
        let (armed, at) = (armed(&[a.clone()], &bench.world), bench.at);
        let mut bench = bench.reopened(armed, at);
        bench.chain.restore(&snapshot, at, &mut bench.ledger).expect("there is a place for it");
        bench.feed(&[after]);
        assert_eq!(bench.texts(), [record]);
    }
}

#[test]
fn lines_that_turn_up_while_an_instance_comes_back_to_be_saved_keep_their_order() {
    let mut bench = Bench::new(&[Fake { ticks: true, ..saving("a") }]);
    for line in ["n1", "n2"] {
        bench.feed(&[line]);
    }
    bench.world.lock().expect("no panic").tick_faults = 1;
    bench.tick();
    for records in [&["n1"][..], &["n1", "n2"]] {
        assert_eq!(bench.chain.snapshot(&mut bench.ledger).expect("no fault"), None, "the chain is not at rest");
        assert_eq!((bench.drive(), bench.texts()), (End::Done, records.to_vec()));
    }
    assert!(bench.chain.snapshot(&mut bench.ledger).expect("it saves").is_some());
}

#[test]
fn a_snapshot_with_held_lines_is_refused_by_a_chain_that_has_no_place_for_them() {
    let mut bench = Bench::new(&[saving("a")]);
    bench.feed(&["h1"]);
    let held = bench.chain.snapshot(&mut bench.ledger).expect("it saves").expect("it can");
    for other in [&[named("a")][..], &[saving("b")], &[]] {
        let mut chain = Bench::new(other);
        assert!(chain.chain.restore(&held, 3, &mut chain.ledger).is_err(), "{other:?}");
        assert_eq!(chain.chain.oldest_held(), None);
    }
    bench.feed(&["r2"]);
    let empty = bench.chain.snapshot(&mut bench.ledger).expect("it saves").expect("it can");
    let mut chain = Bench::new(&[saving("b")]);
    chain.chain.restore(&empty, 6, &mut chain.ledger).expect("nothing is lost with a state that holds nothing");
}

#[test]
fn a_restored_chain_whose_state_is_not_taken_says_so() {
    let mut bench = Bench::new(&[saving("a")]);
    bench.feed(&["h1"]);
    let saved = bench.chain.snapshot(&mut bench.ledger).expect("it saves").expect("it can");
    let drops = Fake { on_error: OnError::Drop, ..saving("a") };

    let mut eager = Bench::new(&[drops.clone()]);
    eager.world.lock().expect("no panic").load_faults = 1;
    assert!(eager.chain.restore(&saved, 3, &mut eager.ledger).is_err());

    let mut lazy = Bench::new(&[drops]);
    lazy.world.lock().expect("no panic").load_faults = 1;
    lazy.chain.restore_later(&saved, 3).expect("nothing is started yet");
    assert_eq!(lazy.feed(&["r2"]), End::Blocked { line: 0, stage: 0 }, "held lines are only in the state: no policy");
    assert_eq!(lazy.drive(), End::Done);
    assert_eq!(lazy.texts(), ["h1+r2"]);
}

#[test]
fn a_held_line_with_a_key_is_not_left_to_a_state_that_does_not_know_the_key() {
    let mut bench = Bench::new(&[saving("a"), saving("b")]);
    bench.feed(&["eh1"]);
    assert_eq!(bench.chain.snapshot(&mut bench.ledger).expect("it saves"), None);
    bench.feed(&["kr2"]);
    assert_eq!(bench.out[0].key.as_deref(), Some("key 0"));
    assert!(bench.chain.snapshot(&mut bench.ledger).expect("it saves").is_some());
}

#[test]
fn only_chains_that_can_save_all_they_hold_want_snapshots() {
    for (fakes, wants) in [
        (&[][..], false),
        (&[stateless("a")], false),
        (&[saving("a")], true),
        (&[stateless("a"), saving("b")], true),
        (&[named("a"), saving("b")], false),
    ] {
        let mut bench = Bench::new(fakes);
        assert_eq!(bench.chain.wants_snapshots(), wants, "{fakes:?}");
        assert!(bench.chain.snapshot(&mut bench.ledger).expect("no fault").is_none(), "nothing to save yet");
        assert_eq!(bench.feed(&["kk1"]), End::Done);
        assert_eq!(bench.chain.snapshot(&mut bench.ledger).expect("no fault").is_some(), wants);
    }
}
