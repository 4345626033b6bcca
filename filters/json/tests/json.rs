//! The json filter, natively.

use json::Json;
use tailmill_filter::Outcome;
use tailmill_filter::testing;

/// One line in, what comes out.
fn check(config: &str, line: &str, wanted: &str) {
    assert_eq!(testing::texts::<Json>(config, [line]), [wanted], "{config} {line}");
}

#[test]
fn a_line_that_needs_no_edit_goes_on_byte_for_byte() {
    let lines = [r#"{ "a" : 1.00, "b":[1 ,2]}"#, r#"{"b":1e400}"#];
    for config in
        ["{}", r#"{"drop": "x"}"#, r#"{"keep": ["a", "b"]}"#, r#"{"rename": {"x.y": "z"}}"#, r#"{"add": {"b": 0}}"#]
    {
        let answer = testing::start::<Json>(config).expect(config).answer(&lines).expect("no fault");
        assert_eq!(answer.outcome, Outcome::KeepAll, "{config}");
    }
}

#[test]
fn what_no_path_touches_keeps_its_order_and_its_digits() {
    let line = r#"{"z":1.00,"secret":1,"a":12345678901234567890123,"m":{"y": [1 ,2],"x":"\u00fc"}}"#;
    check(r#"{"drop": "secret"}"#, line, r#"{"z":1.00,"a":12345678901234567890123,"m":{"y": [1 ,2],"x":"\u00fc"}}"#);
    check(r#"{"drop": "m.y"}"#, line, r#"{"z":1.00,"secret":1,"a":12345678901234567890123,"m":{"x":"\u00fc"}}"#);
}

#[test]
fn fields_are_dropped() {
    check(r#"{"drop": ["a", "b.c"]}"#, r#"{"a":1,"b":{"c":2,"d":3}}"#, r#"{"b":{"d":3}}"#);
    check(r#"{"drop": "b.c"}"#, r#"{"b":{"c":2}}"#, r#"{"b":{}}"#);
    check(r#"{"drop": "b.c"}"#, r#"{"b":"c"}"#, r#"{"b":"c"}"#);
    check(r#"{"drop": "a"}"#, r#"{"a":1,"a":2,"b":3}"#, r#"{"b":3}"#);
    check(r#"{"drop": "a\\.b"}"#, r#"{"a.b":1,"a":{"b":2}}"#, r#"{"a":{"b":2}}"#);
    check(r#"{"drop": "\u00fc"}"#, r#"{"\u00fc":1,"b":2}"#, r#"{"b":2}"#);
    check(r#"{"drop": "x"}"#, r#"{"a\"b":1,"x":2}"#, r#"{"a\"b":1}"#);
}

#[test]
fn only_named_fields_are_kept() {
    check(r#"{"keep": ["c", "a"]}"#, r#"{"a":1,"b":2,"c":3}"#, r#"{"a":1,"c":3}"#);
    check(r#"{"keep": ["a.x", "b"]}"#, r#"{"a":{"w":0,"x":1},"b":{"y":2},"c":3}"#, r#"{"a":{"x":1},"b":{"y":2}}"#);
    check(r#"{"keep": ["a", "a.x"]}"#, r#"{"a":{"w":0,"x":1},"c":1}"#, r#"{"a":{"w":0,"x":1}}"#);
    check(r#"{"keep": "a.x"}"#, r#"{"a":{"w":0}}"#, "{}");
    check(r#"{"keep": "a.x"}"#, r#"{"a":5}"#, "{}");
}

#[test]
fn fields_are_renamed_in_their_place() {
    check(r#"{"rename": {"msg": "message"}}"#, r#"{"a":1,"msg":"x","b":2}"#, r#"{"a":1,"message":"x","b":2}"#);
    check(r#"{"rename": {"h.a": "h.b"}}"#, r#"{"h":{"a":1,"c":2}}"#, r#"{"h":{"b":1,"c":2}}"#);
    check(r#"{"rename": {"http.status": "status"}}"#, r#"{"http":{"status":200}}"#, r#"{"http":{},"status":200}"#);
    check(r#"{"rename": {"status": "http.status"}}"#, r#"{"status":200,"b":1}"#, r#"{"b":1,"http":{"status":200}}"#);
    check(r#"{"rename": {"a": "b"}}"#, r#"{"a":1,"b":2}"#, r#"{"b":1}"#);
    check(r#"{"rename": {"a": "b", "b": "c"}}"#, r#"{"a":1}"#, r#"{"c":1}"#);
    check(r#"{"rename": {"a": "a"}}"#, r#"{"a":1}"#, r#"{"a":1}"#);
    check(r#"{"rename": {"a": "a.b"}}"#, r#"{"a":1}"#, r#"{"a":{"b":1}}"#);
}

#[test]
fn fields_are_added_where_they_are_missing_and_set_in_any_case() {
    check(r#"{"add": {"env": "prod"}}"#, r#"{"a":1}"#, r#"{"a":1,"env":"prod"}"#);
    check(r#"{"add": {"a": 0, "h.x": [1, 2]}}"#, r#"{"a":1,"h":{}}"#, r#"{"a":1,"h":{"x":[1, 2]}}"#);
    check(r#"{"add": {"z": null, "y": 1.50}}"#, "{}", r#"{"z":null,"y":1.50}"#);
    check(r#"{"set": {"a": true, "b": {"c": 1}}}"#, r#"{"a":1}"#, r#"{"a":true,"b":{"c": 1}}"#);
    check(r#"{"set": {"a.b": 1}}"#, r#"{"a":"text"}"#, r#"{"a":{"b":1}}"#);
    check(r#"{"set": {"a": {"b": 1}, "a.c": 2}}"#, "{}", r#"{"a":{"b":1,"c":2}}"#);
}

#[test]
fn edits_come_in_a_fixed_order() {
    let config = r#"{"keep": ["a", "b"], "drop": "b", "rename": {"a": "c"}, "add": {"c": 0, "d": 1}, "set": {"d": 2}}"#;
    check(config, r#"{"x":0,"b":1,"a":9}"#, r#"{"c":9,"d":2}"#);
}

const ACCESS: &str = r#"{"regex": "^(?<ip>\\S+) (?<status>\\d+) (?<ok>\\S+)( (?<rest>.*))?$", "types": {"status": "number", "ok": "boolean"}}"#;

#[test]
fn named_groups_of_a_pattern_become_fields() {
    check(ACCESS, "::1 200 true", r#"{"ip":"::1","status":200,"ok":true}"#);
    check(
        ACCESS,
        "::1 200 yes a \"b\"\t",
        r#"{"ip":"::1","status":200,"ok":"yes","rest":"a \"b\"\t"}"#.replace('\t', "\\t").as_str(),
    );
    check(ACCESS, "::1 007 true", r#"{"ip":"::1","status":"007","ok":true}"#);
    check(ACCESS, r#"{"ip":"json stays"}"#, r#"{"ip":"json stays"}"#);
    check(ACCESS, "no match", "no match");
    check(r#"{"regex": ["^a(?<x>.)", "^b(?<y>.)"], "add": {"z": 1}}"#, "b2", r#"{"y":"2","z":1}"#);
    let line: &[u8] = b"a\xff";
    assert_eq!(testing::texts::<Json>(r#"{"regex": "^a(?<x>.)"}"#, [line]), ["{\"x\":\"\u{fffd}\"}"]);
}

#[test]
fn what_is_no_json_object_goes_by_policy() {
    for line in ["text", "[1]", "12", "", "{\"a\":1", "{\"a\":1} x", "{'a':1}", "{\"a\":tru}", "{\"a\":{]}}"] {
        check("{}", line, line);
        check(r#"{"not_json": "keep", "add": {"a": 1}}"#, line, line);
        assert_eq!(testing::texts::<Json>(r#"{"not_json": "drop"}"#, [line]), Vec::<String>::new(), "{line}");
        let fault = testing::try_records::<Json>(r#"{"not_json": "error"}"#, ["{}", line]).expect_err(line);
        assert!(fault.line == Some(1) && fault.message.starts_with("not a JSON object"), "{fault:?}");
    }
    check(r#"{"not_json": "wrap"}"#, "a \"text\"", r#"{"message":"a \"text\""}"#);
    check(r#"{"not_json": "wrap", "wrap_key": "log", "add": {"a": 1}}"#, "[1]", r#"{"log":"[1]","a":1}"#);
    check(r#"{"not_json": "drop"}"#, " {\"a\":1} ", " {\"a\":1} ");
}

fn check_refused(config: &str, wanted: &str) {
    assert_eq!(testing::start::<Json>(config).err().as_deref(), Some(wanted), "{config}");
}

#[test]
fn a_config_that_makes_no_sense_is_refused_by_key() {
    check_refused(
        r#"{"drop": ["a", "b..c"]}"#,
        r"`drop[1]`: the path `b..c` has an empty part (a dot in a name is written `\\.`)",
    );
    check_refused(
        r#"{"rename": {"a": ""}}"#,
        r"`rename.a`: the path `` has an empty part (a dot in a name is written `\\.`)",
    );
    check_refused(r#"{"rename": {"a": 1}}"#, "`rename.a`: invalid type: integer `1`, expected a string");
    check_refused(r#"{"wrap_key": "m"}"#, r#"`wrap_key`: means nothing without `"not_json": "wrap"`"#);
    check_refused(r#"{"not_json": "wrap", "wrap_key": ""}"#, "`wrap_key`: must not be empty");
    check_refused(
        r#"{"not_json": "x"}"#,
        "`not_json`: unknown variant `x`, expected one of `keep`, `drop`, `wrap`, `error`",
    );
    check_refused(
        r#"{"regex": "a(b)"}"#,
        "`regex`: no named group in `a(b)`: write (?<name>…) around what becomes a field",
    );
    check_refused(
        r#"{"regex": "(?<a>.)", "types": {"b": "number"}}"#,
        "`types.b`: no pattern in `regex` has a group of this name",
    );
    check_refused(
        r#"{"dropp": "a"}"#,
        "unknown field `dropp`, expected one of `keep`, `drop`, `rename`, `add`, `set`, `regex`, `types`, `not_json`, `wrap_key`",
    );
}
