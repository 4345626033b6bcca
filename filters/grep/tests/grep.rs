//! The grep filter, natively, behind the host's needles.

use grep::Grep;
use tailmill_filter::Outcome;
use tailmill_filter::testing;

const LINES: [&str; 6] = ["GET /healthz", "GET /a error", "POST /b", "Error: c", "", "warn error warn"];

/// The numbers of the lines that go on.
fn check(config: &str, wanted: &[usize]) {
    let wanted: Vec<&str> = wanted.iter().map(|at| LINES[*at]).collect();
    assert_eq!(testing::texts::<Grep>(config, LINES), wanted, "{config}");
}

#[test]
fn what_is_included_goes_on() {
    check(r#"{"include": "error"}"#, &[1, 5]);
    check(r#"{"include": ["error", "POST"]}"#, &[1, 2, 5]);
    check(r#"{"include_regex": "^(GET|POST) /[ab]"}"#, &[1, 2]);
    check(r#"{"include_regex": ["^$", "c$"]}"#, &[3, 4]);
    check(r#"{"include": "POST", "include_regex": "z$"}"#, &[0, 2]);
    check(r#"{"include": "nowhere"}"#, &[]);
}

#[test]
fn what_is_excluded_goes_no_further() {
    check(r#"{"exclude": "healthz"}"#, &[1, 2, 3, 4, 5]);
    check(r#"{"exclude": ["healthz", "error"]}"#, &[2, 3, 4]);
    check(r#"{"exclude_regex": "rr"}"#, &[0, 2, 4]);
    check(r#"{"exclude": "healthz", "exclude_regex": ["^$", "^Err"]}"#, &[1, 2, 5]);
    check(r#"{"exclude": ["1", "2", "3", "4", "POST"]}"#, &[0, 1, 3, 4, 5]);
}

#[test]
fn what_is_excluded_wins_over_what_is_included() {
    check(r#"{"include": "error", "exclude": "warn"}"#, &[1]);
    check(r#"{"include_regex": "error", "exclude": "warn"}"#, &[1]);
    check(r#"{"include": "GET", "exclude_regex": "z$"}"#, &[1]);
}

#[test]
fn case_counts_unless_it_is_told_not_to() {
    check(r#"{"include": "ERROR"}"#, &[]);
    check(r#"{"include": "ERROR", "ignore_case": true}"#, &[1, 3, 5]);
    check(r#"{"exclude": "GET", "exclude_regex": "E{1}RROR", "ignore_case": true}"#, &[2, 4]);
}

#[test]
fn a_literal_is_no_pattern_and_lines_are_bytes() {
    assert_eq!(testing::texts::<Grep>(r#"{"include": "a.c", "ignore_case": true}"#, ["abc", "A.C"]), ["A.C"]);
    let lines: [&[u8]; 2] = [b"\xff error", b"\xfe"];
    assert_eq!(testing::texts::<Grep>(r#"{"include_regex": "^.? error"}"#, lines), ["\u{fffd} error"]);
    assert_eq!(testing::texts::<Grep>(r#"{"include": "ü"}"#, ["ü", "u"]), ["ü"]);
}

/// The needles that are declared, and whether lines without them are kept.
fn check_needles(config: &str, wanted: &[&str], keep_skipped: bool) {
    let grep = testing::start::<Grep>(config).expect(config);
    let needles: Vec<String> =
        grep.traits().needles.iter().map(|needle| String::from_utf8_lossy(needle).into_owned()).collect();
    assert_eq!((needles, grep.traits().keep_skipped), (wanted.iter().map(ToString::to_string).collect(), keep_skipped));
    assert!(grep.traits().stateless);
}

#[test]
fn literals_that_decide_are_left_to_the_host() {
    check_needles(r#"{"include": ["a", "b"]}"#, &["a", "b"], false);
    check_needles(r#"{"exclude": "a"}"#, &["a"], true);
    check_needles(r#"{"include": "a", "exclude": "b"}"#, &["a"], false);
    check_needles(r#"{"include": "a", "exclude_regex": "b"}"#, &["a"], false);
    check_needles(r#"{"include_regex": "a"}"#, &[], false);
    check_needles(r#"{"include": "a", "include_regex": "b"}"#, &[], false);
    check_needles(r#"{"exclude": "a", "exclude_regex": "b"}"#, &[], true);
    check_needles(r#"{"include": "a", "ignore_case": true}"#, &[], false);
    check_needles(r#"{"include_regex": "a", "exclude": "b"}"#, &[], false);
}

#[test]
fn what_a_pattern_must_hold_is_looked_for_by_the_host_and_checked_here() {
    check_needles(r#"{"include": "a", "include_regex": "(error|warn)$"}"#, &["a", "error", "warn"], false);
    check_needles(r#"{"exclude_regex": "^GET /healthz"}"#, &["GET /healthz"], true);
    check(r#"{"include": "POST", "include_regex": "(error|warn)$"}"#, &[1, 2, 5]);
    check(r#"{"include_regex": "^error"}"#, &[]);
    check(r#"{"exclude_regex": "error warn$"}"#, &[0, 1, 2, 3, 4]);
}

#[test]
fn lines_that_hold_a_needle_are_not_searched_again() {
    let answer = |config| testing::start::<Grep>(config).expect(config).answer(&["x", "y"]).expect("no fault").outcome;
    assert_eq!(answer(r#"{"include": "a"}"#), Outcome::KeepAll);
    assert_eq!(answer(r#"{"exclude": "a"}"#), Outcome::DropAll);
}

fn check_refused(config: &str, wanted: &str) {
    assert_eq!(testing::start::<Grep>(config).err().as_deref(), Some(wanted), "{config}");
}

#[test]
fn a_config_that_makes_no_sense_is_refused_by_key() {
    check_refused("{}", "nothing to look for: say `include`, `include_regex`, `exclude` or `exclude_regex`");
    check_refused(
        r#"{"include": []}"#,
        "nothing to look for: say `include`, `include_regex`, `exclude` or `exclude_regex`",
    );
    check_refused(r#"{"exclude": ["a", ""]}"#, "`exclude[1]`: an empty text is in every line");
    check_refused(r#"{"include": ["a", 3]}"#, "`include[1]`: invalid type: integer `3`, expected a string");
    check_refused(r#"{"include": 3}"#, "`include`: invalid type: integer `3`, expected one item or a list of items");
    check_refused(r#"{"include_regex": "a("}"#, "`include_regex`: the pattern `a(` does not compile: unclosed group");
    check_refused(
        r#"{"includes": "a"}"#,
        "unknown field `includes`, expected one of `include`, `include_regex`, `exclude`, `exclude_regex`, `ignore_case`",
    );
}
