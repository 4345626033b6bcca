use tailmill_tail::{Delimiter, MultilineRule, TooLong};

use crate::model::{BreakerPlan, BreakerThen, HeldPlan};

use super::*;

fn sound(json: &str) -> RawEntry {
    parse_entry("e.json", json.as_bytes()).unwrap_or_else(|problems| panic!("{json}: {problems:#?}"))
}

fn check_all(json: &str, problems: &[&str]) {
    let found = parse_entry("e.json", json.as_bytes()).err().unwrap_or_default();
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, problems, "\n{json}");
}

/// `keys` stand beside a path and a topic; the entry has this one problem.
fn check(keys: &str, problem: &str) {
    check_all(&format!(r#"{{"path": "/a", "topic": "t", {keys}}}"#), &[&format!("e.json: {problem}")]);
}

#[test]
fn the_smallest_entry_has_defaults_that_lose_nothing() {
    let entry = sound(r#"{"path": "/var/log/app.log", "topic": "app"}"#);
    assert_eq!(entry.paths, ["/var/log/app.log"]);
    assert_eq!(entry.topics.iter().map(|topic| &**topic).collect::<Vec<_>>(), ["app"]);
    assert_eq!((&*entry.cluster, entry.start), ("default", StartAt::Beginning));
    assert_eq!((entry.framing.line_bytes_max, entry.framing.too_long), (524_288, TooLong::Cut));
    assert_eq!(
        (entry.on_refused, entry.format, entry.partition),
        (OnRefused::Block, Format::Raw, Partitioning::Stream)
    );
    assert!(entry.filters.is_empty() && entry.headers.is_empty() && entry.key.is_none() && entry.nodes.is_none());
}

#[test]
fn the_entry_of_the_design_says_what_it_says() {
    let entry = sound(
        r#"{
  "path": ["/var/log/nginx/*.log"], "exclude": ["*.gz"],
  "topic": "web_log", "topics": ["web_error"], "cluster": "default",
  "nodes": ["web-*"], "labels": {"role": "web"},
  "start": "end",
  "multiline": {"start": "^\\d{4}-", "timeout_ms": 250, "max_bytes": 1000},
  "line_max_bytes": 524288, "line_too_long": "skip",
  "filters": [
    {"use": "grep@1.2", "with": {"exclude": "healthz", "n": [1, 2.5]}, "timeout_ms": 50, "memory_mib": 32, "on_error": "pass", "stateless": true,
     "table_elements": 7, "output_mib": 2, "state_kib": 3, "held_lines_max": 4, "held_mib": 5, "held_ms_max": 6,
     "breaker": {"faults": 8, "within_ms": 9, "percent": 10, "rest_ms": 11, "then": "hold"}},
    {"use": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
  ],
  "on_refused": "dead-letter", "dead_letter_topic": "dead",
  "format": "json", "partition": "key", "key": {"fixed": "k"}, "headers": ["id", "node", "path", "offset", "entry", "inode", "generation", "line"],
  "finish_after_ms": 100
}"#,
    );
    assert!(entry.patterns.unwrap().matches(std::path::Path::new("/var/log/nginx/a.log")));
    assert_eq!(entry.topics.len(), 2);
    assert!(entry.nodes.unwrap().is_match("web-07"));
    assert_eq!((entry.start, entry.framing.too_long), (StartAt::End, TooLong::Skip));
    let multiline = entry.framing.multiline.unwrap();
    assert!(matches!(multiline.rule, MultilineRule::Start(_)));
    assert_eq!((multiline.timeout, multiline.bytes_max), (Duration::from_millis(250), 1000));
    let grep = &entry.filters[0];
    assert_eq!(
        (grep.wanted.as_str(), &*grep.name, grep.on_error, grep.stateless),
        ("grep@1.2", "grep", OnError::Pass, true)
    );
    assert_eq!(&*grep.with, r#"{"exclude":"healthz","n":[1,2.5]}"#);
    assert_eq!((grep.limits.call_time, grep.limits.memory_bytes), (Duration::from_millis(50), 32 << 20));
    let limits = &grep.limits;
    assert_eq!(
        (limits.table_elements, limits.output_bytes, limits.state_bytes, limits.held_lines),
        (7, 2 << 20, 3 << 10, 4)
    );
    assert_eq!(grep.held, HeldPlan { bytes: 5 << 20, time: Duration::from_millis(6) });
    let (within, rest) = (Duration::from_millis(9), Duration::from_millis(11));
    let breaker = BreakerPlan { faults: 8, within, percent: 10, rest, then: BreakerThen::Hold };
    assert_eq!(grep.breaker, Some(breaker));
    let plain = &entry.filters[1];
    assert_eq!((plain.breaker, plain.held), (None, HeldPlan::STANDARD));
    assert_eq!((&*entry.filters[1].name, &*entry.filters[1].with), ("sha256:e3b0c44298fc", "{}"));
    assert_eq!((entry.on_refused, entry.dead_letter_topic.as_deref()), (OnRefused::DeadLetter, Some("dead")));
    assert_eq!((entry.format, entry.partition), (Format::Json, Partitioning::Key));
    assert_eq!(entry.key, Some(KeySource::Fixed("k".to_owned())));
    assert_eq!(entry.headers.len(), 8);
}

#[test]
fn a_delimiter_and_an_encoding_are_taken_as_written() {
    let framing = |keys: &str| sound(&format!(r#"{{"path": "/a", "topic": "t", {keys}}}"#)).framing;
    let plain = framing(r#""start": "end""#);
    assert_eq!((plain.delimiter, plain.encoding), (Delimiter::Newline, None));
    assert_eq!(framing(r#""delimiter": "\u0000""#).delimiter, Delimiter::of_bytes(b"\0").unwrap());
    assert_eq!(framing(r#""delimiter": "\n""#).delimiter, Delimiter::of_bytes(b"\n").unwrap());
    for (label, name) in [("utf-16le", "UTF-16LE"), ("UTF-16BE", "UTF-16BE"), ("latin1", "windows-1252")] {
        assert_eq!(framing(&format!(r#""encoding": "{label}""#)).encoding.unwrap().name(), name);
    }
    assert!(!plain.compressed && framing(r#""compressed": true"#).compressed);
    let both = framing(r#""delimiter": "§", "encoding": "utf-16le""#);
    assert!(both.encoding.is_some() && both.delimiter != Delimiter::Newline);
}

#[test]
fn null_is_as_good_as_not_written() {
    let entry = sound(
        r#"{"path": "/a", "topic": "t", "key": null, "dead_letter_topic": null, "filters": null, "multiline": null}"#,
    );
    assert!(entry.key.is_none() && entry.dead_letter_topic.is_none());
}

#[test]
fn what_is_no_entry_at_all_is_one_problem() {
    check_all("", &["e.json: is not JSON: EOF while parsing a value at line 1 column 0"]);
    check_all("{\n\"path\": \"/a\",,}", &["e.json: is not JSON: key must be a string at line 2 column 14"]);
    check_all("[]", &["e.json: expected an object, found a list"]);
    check_all("{} {}", &["e.json: is not JSON: trailing characters at line 1 column 4"]);
}

#[test]
fn every_problem_is_told_at_once_with_its_key() {
    check_all(
        r#"{"pth": "/a", "topic": 7, "start": "begining", "filters": [{"use": "grep", "wth": {}}, 3], "line_max_bytes": -1, "topics": ["a", 1]}"#,
        &[
            "e.json: path: is missing: which files, for example \"/var/log/app.log\" or [\"/var/log/*.log\"]",
            "e.json: start: `begining` is not one of `beginning`, `end`; did you mean `beginning`?",
            "e.json: line_max_bytes: -1 is out of range: from 16 to 67108864",
            "e.json: filters[0].wth: unknown key `wth`; did you mean `with`?",
            "e.json: filters[1]: expected an object, found a whole number",
            "e.json: topic: expected a string, found a whole number",
            "e.json: topics[1]: expected a string, found a whole number",
            "e.json: pth: unknown key `pth`; did you mean `path`?",
        ],
    );
}

#[test]
fn each_key_is_checked() {
    for (keys, problem) in [
        (r#""path": "/b""#, "path: is written twice"),
        (
            r#""exclude": ["a/b"]"#,
            "exclude[0]: glob `a/b`: with a `/` in it, it is matched against the whole path: begin it with `/` or `**/`",
        ),
        (r#""exclude": 7"#, "exclude: expected a string or a list of strings, found a whole number"),
        (r#""nodes": ["["]"#, "nodes[0]: glob `[`: unclosed character class; missing ']'"),
        (r#""labels": {"role": 1}"#, "labels.role: expected a string, found a whole number"),
        (r#""multiline": {}"#, "multiline: needs exactly one of `start`, `end` and `continue`"),
        (r#""multiline": {"start": "a", "end": "b"}"#, "multiline: needs exactly one of `start`, `end` and `continue`"),
        (r#""multiline": {"start": "(a"}"#, "multiline.start: regex `(a`: unclosed group"),
        (
            r#""multiline": {"start": "a", "timeout": 5}"#,
            "multiline.timeout: unknown key `timeout`; did you mean `timeout_ms`?",
        ),
        (r#""line_too_long": "wrap""#, "line_too_long: `wrap` is not one of `cut`, `skip`"),
        (r#""delimiter": """#, "delimiter: a delimiter has 1 to 16 bytes, not 0"),
        (r#""delimiter": "12345678901234567""#, "delimiter: a delimiter has 1 to 16 bytes, not 17"),
        (r#""delimiter": 0"#, "delimiter: expected a string, found a whole number"),
        (
            r#""encoding": "latin-16""#,
            "encoding: `latin-16` is not an encoding: utf-16le, utf-16be, or a label of the WHATWG Encoding Standard (windows-1252, shift_jis, gb18030, …)",
        ),
        (
            r#""encoding": "iso-2022-jp""#,
            "encoding: ISO-2022-JP can not be read from the middle of a file: what its bytes mean depends on all before them",
        ),
        (
            r#""encoding": "shift_jis", "delimiter": "|""#,
            "delimiter: in Shift_JIS the byte of `|` can be a part of another character: take a delimiter of control characters or of those below `0`",
        ),
        (
            r#""encoding": "windows-1252", "delimiter": "ж""#,
            "delimiter: the delimiter can not be written in windows-1252",
        ),
        (r#""compressed": "gz""#, "compressed: expected true or false, found a string"),
        (
            r#""compressed": true, "start": "end""#,
            "`compressed` does not go with `start` \"end\": where a compressed file ends is known only when all of it was unpacked",
        ),
        (r#""line_max_bytes": 1.5"#, "line_max_bytes: expected a whole number, found a fraction"),
        (r#""filters": {"use": "grep"}"#, "filters: expected a list, found an object"),
        (r#""filters": [{}]"#, "filters[0].use: is missing: the module, as name, name@version or sha256:…"),
        (
            r#""filters": [{"use": "../grep"}]"#,
            "filters[0].use: `../grep` names no module: write name, name@version or sha256:… (without `.wasm` and directories)",
        ),
        (
            r#""filters": [{"use": "grep@"}]"#,
            "filters[0].use: `grep@` names no module: write name, name@version or sha256:… (without `.wasm` and directories)",
        ),
        (r#""filters": [{"use": "sha256:12"}]"#, "filters[0].use: not a digest: expected sha256: and 64 hex digits"),
        (r#""filters": [{"use": "grep", "with": "x"}]"#, "filters[0].with: expected an object, found a string"),
        (
            r#""filters": [{"use": "grep", "timeout_ms": 0}]"#,
            "filters[0].timeout_ms: 0 is out of range: from 1 to 600000",
        ),
        (
            r#""filters": [{"use": "grep", "memory_mib": 5000}]"#,
            "filters[0].memory_mib: 5000 is out of range: from 1 to 4095",
        ),
        (
            r#""filters": [{"use": "grep", "on_error": "skip"}]"#,
            "filters[0].on_error: `skip` is not one of `block`, `pass`, `drop`, `dead-letter`",
        ),
        (
            r#""filters": [{"use": "grep", "breaker": {"faults": 5}}]"#,
            "filters[0].breaker: has no meaning with on_error `block`: the first line that the filter fails on stops the file",
        ),
        (
            r#""filters": [{"use": "grep", "on_error": "drop", "breaker": true}]"#,
            "filters[0].breaker: expected false or an object, found true or false",
        ),
        (
            r#""filters": [{"use": "grep", "on_error": "drop", "breaker": {"percent": 101}}]"#,
            "filters[0].breaker.percent: 101 is out of range: from 0 to 100",
        ),
        (
            r#""filters": [{"use": "grep", "on_error": "dead-letter"}]"#,
            "dead_letter_topic: is missing: a policy says `dead-letter`",
        ),
        (r#""on_error": "pass""#, "on_error: belongs to each filter: write it inside `filters`"),
        (r#""on_refused": "pass""#, "on_refused: `pass` is not one of `block`, `drop`, `dead-letter`"),
        (r#""on_refused": "dead-letter""#, "dead_letter_topic: is missing: a policy says `dead-letter`"),
        (
            r#""on_refused": "dead-letter", "dead_letter_topic": "t""#,
            "dead_letter_topic: is the entry's own topic: dead letters need another",
        ),
        (r#""topics": ["b", "b"]"#, "topics[1]: `b` is listed twice"),
        (r#""topics": ["t"]"#, "topics[0]: `t` is listed twice"),
        (r#""topics": ["a b"]"#, "topics[0]: `a b` is not a topic: letters, digits, `.`, `_` and `-`, at most 249"),
        (r#""format": "xml""#, "format: `xml` is not one of `raw`, `json`"),
        (r#""partition": -1"#, "partition: -1 is out of range: from 0 to 2147483647"),
        (r#""partition": true"#, "partition: expected a string or a whole number, found true or false"),
        (
            r#""partition": "round_robin""#,
            "partition: `round_robin` is not one of `stream`, `key`, `round-robin`, `random`; did you mean `round-robin`?",
        ),
        (r#""partition": "key""#, "partition: `key` needs `key`, or a filter that sets one"),
        (r#""key": "host""#, "key: `host` is not one of `node`, `path`, `stream`"),
        (r#""key": {"fix": "x", "fixed": "y"}"#, "key.fix: unknown key `fix`; did you mean `fixed`?"),
        (r#""headers": ["id", "id"]"#, "headers[1]: `id` is listed twice"),
        (
            r#""headers": ["ids"]"#,
            "headers[0]: `ids` is not one of `id`, `node`, `path`, `offset`, `entry`, `inode`, `generation`, `line`; did you mean `id`?",
        ),
        (r#""cluster": """#, "cluster: is empty"),
    ] {
        check(keys, problem);
    }
}

#[test]
fn bad_paths_are_told_one_by_one() {
    check_all(
        r#"{"path": ["var/log/a", "/ok/*.log", "/x/["], "topic": ".."}"#,
        &[
            "e.json: path[0]: glob `var/log/a`: must be absolute: begin it with `/`",
            "e.json: path[2]: glob `/x/[`: `[` is never closed: add `]`, or write `\\[`",
            "e.json: topic: `..` is not a topic: letters, digits, `.`, `_` and `-`, at most 249",
        ],
    );
    check_all(r#"{"path": [], "topic": "t"}"#, &["e.json: path: is empty: name at least one file"]);
    check_all(r#"{"path": "", "topic": "t"}"#, &["e.json: path: is empty"]);
}

#[test]
fn names_are_plain_words() {
    for name in ["a", "app.log", "web-01_x", "0"] {
        assert!(is_name(name), "{name}");
    }
    for name in ["", ".a", "-a", "a/b", "a b", "a@b", "ä", &"a".repeat(101)] {
        assert!(!is_name(name), "{name}");
    }
}
