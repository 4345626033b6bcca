//! The redact filter, natively.

use redact::Redact;
use tailmill_filter::Outcome;
use tailmill_filter::testing;

/// One line in, what comes out.
fn check(config: &str, line: &str, wanted: &str) {
    assert_eq!(testing::texts::<Redact>(config, [line]), [wanted], "{config} {line}");
}

#[test]
fn all_detectors_are_on_unless_some_are_named() {
    let line = "a@b.de paid with 4111 1111 1111 1111, password=x1";
    check("{}", line, "[email] paid with [card], password=[token]");
    check(r#"{"detect": "card"}"#, line, "a@b.de paid with [card], password=x1");
    check(r#"{"detect": ["email", "token"]}"#, line, "[email] paid with 4111 1111 1111 1111, password=[token]");
}

#[test]
fn clean_lines_are_only_kept() {
    let clean = ["2024-01-15T10:22:33Z INFO all is well", "", "GET /a?x=1 200 12ms"];
    let answer = |lines: &[&str]| testing::start::<Redact>("{}").expect("start").answer(lines).expect("no fault");
    assert_eq!(answer(&clean).outcome, Outcome::KeepAll);
    let lines = [&clean[..], &["a@b.de"], &clean[..]].concat();
    let wanted = [&clean[..], &["[email]"], &clean[..]].concat();
    assert_eq!(testing::texts::<Redact>("{}", lines), wanted);
}

#[test]
fn what_overlaps_becomes_one() {
    check("{}", "Authorization: Bearer abcdefgh12", "Authorization: Bearer [token]");
    check("{}", "password=bob@example.com", "password=[token]");
    check("{}", "password=x@y.de;z", "password=[token];z");
    check("{}", "http://u:p@host.example.com/", "http://u:[token]@host.example.com/");
    check(r#"{"patterns": {"name": "all", "regex": "pay.*"}}"#, "pay 4111111111111111 now", "[all]");
}

const CUSTOM: &str = r#"{"detect": [], "patterns": [
    {"name": "ssn", "regex": "\\b\\d{3}-\\d{2}-\\d{4}\\b"},
    {"name": "user", "regex": "user (?<secret>\\w+)", "ignore_case": true}
]}"#;

#[test]
fn custom_patterns_take_out_the_match_or_the_group_called_secret() {
    check(CUSTOM, "123-45-6789 and 123-45-6789, not 1123-45-6789", "[ssn] and [ssn], not 1123-45-6789");
    check(CUSTOM, "User bob, user Eve; a@b.de", "User [user], user [user]; a@b.de");
}

#[test]
fn the_replacement_is_a_template() {
    check(r#"{"replacement": "***"}"#, "a@b.de, c@d.de", "***, ***");
    check(r#"{"replacement": "<{kind}|{kind}>"}"#, "a@b.de", "<email|email>");
    check(r#"{"replacement": ""}"#, "a@b.de!", "!");
}

const KEY: &str = "0123456789abcdef";

#[test]
fn a_keyed_hash_keeps_equal_values_equal() {
    let hashed = |key: &str, line: &str| {
        testing::texts::<Redact>(&format!(r#"{{"hash_key": "{key}", "replacement": "{{hash}}"}}"#), [line]).remove(0)
    };
    // printf a@b.de | openssl dgst -sha256 -hmac 0123456789abcdef | cut -c 1-16
    assert_eq!(hashed(KEY, "a@b.de"), "e277049f2d231fbe");
    assert_eq!(hashed(KEY, "A@B.de"), hashed(KEY, "a@b.de"), "mail addresses in any case");
    assert_eq!(hashed(KEY, "4111 1111 1111 1111"), hashed(KEY, "4111111111111111"), "cards in any grouping");
    assert_ne!(hashed(KEY, "a@b.de"), hashed(KEY, "b@b.de"));
    assert_ne!(hashed(KEY, "a@b.de"), hashed("another key of 16", "a@b.de"));
    check(&format!(r#"{{"hash_key": "{KEY}"}}"#), "a@b.de", "[email:e277049f2d231fbe]");
}

#[test]
fn lines_are_bytes() {
    let line: &[u8] = b"\xff a@b.de \xfe";
    let sent = testing::records::<Redact>("{}", [line]);
    assert_eq!(sent[0].line, b"\xff [email] \xfe");
}

#[test]
fn mail_addresses_alone_are_looked_for_by_the_host() {
    let traits = |config: &str| testing::start::<Redact>(config).expect(config).traits().clone();
    assert_eq!((traits(r#"{"detect": "email"}"#).needles, traits("{}").needles), (vec![b"@".to_vec()], vec![]));
    assert!(traits(r#"{"detect": "email"}"#).keep_skipped);
    check(r#"{"detect": "email"}"#, "no address", "no address");
    check(r#"{"detect": "email"}"#, "a@b.de", "[email]");
}

fn check_refused(config: &str, wanted: &str) {
    assert_eq!(testing::start::<Redact>(config).err().as_deref(), Some(wanted), "{config}");
}

#[test]
fn a_config_that_makes_no_sense_is_refused_by_key() {
    check_refused(r#"{"detect": []}"#, "nothing to look for: `detect` is empty and there are no `patterns`");
    check_refused(
        r#"{"detect": "mail"}"#,
        "`detect`: unknown variant `mail`, expected one of `email`, `card`, `token`",
    );
    check_refused(r#"{"replacement": "{hash}"}"#, "`replacement`: {hash} needs a `hash_key`");
    check_refused(r#"{"hash_key": "short"}"#, "`hash_key`: must have at least 16 bytes: a shorter one can be guessed");
    check_refused(
        r#"{"hash_key": "0123456789abcdef", "replacement": "x"}"#,
        "`hash_key`: means nothing unless `replacement` has {hash} in it",
    );
    check_refused(
        r#"{"patterns": [{"name": "a", "regex": "x*"}]}"#,
        "`patterns[0].regex`: the pattern `x*` matches an empty text too: then it is everywhere",
    );
    check_refused(
        r#"{"patterns": {"name": "a", "regex": "("}}"#,
        "`patterns.regex`: the pattern `(` does not compile: unclosed group",
    );
    check_refused(
        r#"{"patterns": [{"name": "a", "regexp": "x"}]}"#,
        "`patterns[0].regexp`: unknown field `regexp`, expected one of `name`, `regex`, `ignore_case`",
    );
    check_refused(
        r#"{"mask": "x"}"#,
        "unknown field `mask`, expected one of `detect`, `patterns`, `replacement`, `hash_key`",
    );
}
