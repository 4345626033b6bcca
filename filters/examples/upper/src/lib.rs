//! The line lane with nothing but wit-bindgen: one function on one line, no SDK. Upper-cases ASCII; drops empty lines.
//! `{"fail_on": "x"}` as config makes every line that begins with x an error: the config is ours to read as we like.

// The bindings are generated code, and hold all that is unsafe here.
#[allow(unsafe_code, missing_docs, clippy::all, unused_qualifications, unreachable_pub)]
mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "line-filter" });

    #[cfg(target_arch = "wasm32")]
    export!(Upper with_types_in self);
    #[cfg(target_arch = "wasm32")]
    use super::Upper;
}

use std::cell::RefCell;

use bindings::exports::tailmill::filter::line::{Guest, Verdict};

/// The filter.
pub struct Upper;

thread_local! {
    static FAIL_ON: RefCell<Option<u8>> = const { RefCell::new(None) };
}

impl Guest for Upper {
    fn start(config: Vec<u8>) -> Result<(), Vec<u8>> {
        let config: String = String::from_utf8_lossy(&config).split_whitespace().collect();
        let letter = match config.as_str() {
            "{}" | "" => None,
            other => match other.strip_prefix("{\"fail_on\":\"").and_then(|rest| rest.strip_suffix("\"}")) {
                Some(text) if text.len() == 1 => Some(text.as_bytes()[0]),
                _ => return Err(b"config: only `fail_on` is known, with one ASCII letter".to_vec()),
            },
        };
        FAIL_ON.set(letter);
        Ok(())
    }

    fn run(line: Vec<u8>) -> Result<Verdict, Vec<u8>> {
        if line.is_empty() {
            return Ok(Verdict::Drop);
        }
        if line.first().copied() == FAIL_ON.with_borrow(|letter| *letter) {
            return Err(b"this line begins with the letter of `fail_on`".to_vec());
        }
        let upper = line.to_ascii_uppercase();
        Ok(if upper == line { Verdict::Keep } else { Verdict::Replace(upper) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &str, line: &str, wanted: Result<Option<&str>, &str>) {
        Upper::start(config.as_bytes().to_vec()).expect("start");
        let got = match Upper::run(line.as_bytes().to_vec()) {
            Ok(Verdict::Keep) => Ok(Some(line.to_string())),
            Ok(Verdict::Drop) => Ok(None),
            Ok(Verdict::Replace(bytes)) => Ok(Some(String::from_utf8(bytes).expect("UTF-8"))),
            Err(message) => Err(String::from_utf8(message).expect("UTF-8")),
        };
        assert_eq!(got, wanted.map(|text| text.map(String::from)).map_err(String::from), "{config} {line}");
    }

    #[test]
    fn lines_come_out_in_upper_case() {
        check("{}", "abc", Ok(Some("ABC")));
        check("{}", "ABC 1", Ok(Some("ABC 1")));
        check("{}", "ä", Ok(Some("ä")));
        check("{}", "", Ok(None));
    }

    #[test]
    fn a_line_can_fail_and_so_can_a_config() {
        check(r#"{ "fail_on": "x" }"#, "xyz", Err("this line begins with the letter of `fail_on`"));
        check(r#"{ "fail_on": "x" }"#, "yxz", Ok(Some("YXZ")));
        assert!(Upper::start(b"{\"other\": 1}".to_vec()).is_err());
    }
}
