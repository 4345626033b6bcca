//! The join filter, natively.

use join::Join;
use tailmill_filter::testing::{self, Sent};

fn check(lines: &[&str], wanted: &[&str]) {
    assert_eq!(testing::texts::<Join>("{}", lines), wanted, "{lines:?}");
}

fn show(sent: &[Sent]) -> Vec<String> {
    sent.iter().map(|sent| format!("{}@{}", sent.text(), sent.source)).collect()
}

#[test]
fn a_line_that_ends_in_a_backslash_is_joined_with_the_next() {
    check(&["a", "b"], &["a", "b"]);
    check(&["a\\", "b", "c"], &["ab", "c"]);
    check(&["a\\", "b\\", "c", "d"], &["abc", "d"]);
    check(&["\\", "x"], &["x"]);
    check(&["a\\", ""], &["a"]);
    check(&["a", "b\\"], &["a", "b"]);
}

#[test]
fn a_joined_line_comes_from_its_first_part_and_holds_it_until_then() {
    let mut join = testing::start::<Join>("{}").expect("start");
    assert_eq!(join.run(&["x", "a\\"]).map(|sent| show(&sent)), Ok(vec!["x@0".into()]));
    assert_eq!(join.oldest_held(), Some(1));
    assert_eq!(join.run(&["b\\"]).map(|sent| show(&sent)), Ok(vec![]));
    assert_eq!(join.oldest_held(), Some(1));
    assert_eq!(join.run(&["c", "d"]).map(|sent| show(&sent)), Ok(vec!["abc@1".into(), "d@4".into()]));
    assert_eq!(join.oldest_held(), None);
}

#[test]
fn what_waits_too_long_goes_on_alone() {
    let mut join = testing::start::<Join>(r#"{"wait_ms": 100}"#).expect("start");
    assert_eq!(join.every_ms(), 25);
    join.run(&["a\\"]).expect("no fault");
    join.world.now_ns += 99_000_000;
    assert_eq!(join.tick().map(|sent| show(&sent)), Ok(vec![]));
    join.world.now_ns += 1_000_000;
    assert_eq!(join.tick().map(|sent| show(&sent)), Ok(vec!["a@0".into()]));
    assert_eq!(join.oldest_held(), None);
    assert_eq!(join.run(&["b"]).map(|sent| show(&sent)), Ok(vec!["b@1".into()]));
}

#[test]
fn what_waits_survives_a_new_instance() {
    let mut join = testing::start::<Join>("{}").expect("start");
    join.run(&["a\\"]).expect("no fault");
    join.reload("{}").expect("reload");
    assert_eq!(join.run(&["b"]).map(|sent| show(&sent)), Ok(vec!["ab@0".into()]));
}

#[test]
fn a_config_that_makes_no_sense_is_refused() {
    let refusal = |config| testing::start::<Join>(config).err();
    assert_eq!(refusal(r#"{"wait_ms": 0}"#).as_deref(), Some("`wait_ms`: must be at least 1"));
    assert_eq!(refusal(r#"{"wait": 1}"#).as_deref(), Some("unknown field `wait`, expected `wait_ms`"));
}
