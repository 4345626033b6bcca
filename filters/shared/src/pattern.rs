//! One pattern of a config: read, checked, and asked what every match of it must hold.

use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_syntax::hir::Hir;
use regex_syntax::hir::literal::{ExtractKind, Extractor};

/// A pattern that runs on bytes: `.` is any byte but a newline; `\w`, `\d`, `\s` and `\b` are ASCII.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub(crate) key: String,
    pub(crate) hir: Hir,
    text: String,
}

/// No pattern that a person writes comes near it; one like `(a{1000}){1000}` goes beyond.
const NFA_BYTES_MAX: usize = 4 << 20;

/// A needle of less than this is in too many lines to be worth a search.
const NEEDLE_BYTES_MIN: usize = 3;

/// More needles than this cost more to search for than they spare.
const NEEDLES_MAX: usize = 8;

impl Pattern {
    /// Reads a pattern. The error names the key it stands under.
    pub fn new(key: &str, text: &str, ignore_case: bool) -> Result<Pattern, String> {
        let config = syntax::Config::new().unicode(false).utf8(false).case_insensitive(ignore_case);
        let refused = |reason: String| format!("`{key}`: the pattern `{text}` does not compile: {reason}");
        let hir = syntax::parse_with(text, &config).map_err(|error| refused(reason(&error)))?;
        let pattern = Pattern { key: key.to_string(), hir, text: text.to_string() };
        let fits = thompson::Compiler::new().configure(nfa_config()).build_from_hir(&pattern.hir).is_ok();
        if !fits {
            return Err(refused(format!("it needs more than {} MiB", NFA_BYTES_MAX >> 20)));
        }
        Ok(pattern)
    }

    /// A pattern that matches just this text.
    pub fn literal(key: &str, text: &str, ignore_case: bool) -> Result<Pattern, String> {
        Pattern::new(key, &regex_syntax::escape(text), ignore_case)
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether an empty text matches, so that there is a match at every place.
    pub fn matches_nothing_at_all(&self) -> bool {
        self.hir.properties().minimum_len() == Some(0)
    }

    /// Byte strings of which every match holds at least one, if there are some that are worth a search.
    pub fn needles(&self) -> Option<Vec<Vec<u8>>> {
        [ExtractKind::Prefix, ExtractKind::Suffix].into_iter().find_map(|kind| {
            let found = Extractor::new().kind(kind.clone()).limit_class(1).limit_total(NEEDLES_MAX).extract(&self.hir);
            let literals = found.literals()?;
            let worth = !literals.is_empty() && literals.iter().all(|literal| literal.len() >= NEEDLE_BYTES_MIN);
            worth.then(|| literals.iter().map(|literal| literal.as_bytes().to_vec()).collect())
        })
    }
}

pub(crate) fn nfa_config() -> thompson::Config {
    thompson::Config::new().utf8(false).nfa_size_limit(Some(NFA_BYTES_MAX))
}

/// The last line says what is wrong; the lines before it draw the pattern and an arrow.
fn reason(error: &regex_syntax::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim().trim_start_matches("error: ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(text: &str, wanted: &str) {
        let wanted = format!("`include_regex[1]`: the pattern `{text}` does not compile: {wanted}");
        assert_eq!(Pattern::new("include_regex[1]", text, false).err(), Some(wanted));
    }

    #[test]
    fn a_bad_pattern_is_refused_by_key_and_reason() {
        check_refused("a(b", "unclosed group");
        check_refused("[b-a]", "invalid character class range, the start must be <= the end");
        check_refused("a{1000}{1000}", "it needs more than 4 MiB");
        check_refused(r"\pL", "Unicode not allowed here");
    }

    fn check_needles(text: &str, ignore_case: bool, wanted: Option<&[&str]>) {
        let needles = Pattern::new("p", text, ignore_case).expect(text).needles();
        let needles =
            needles.map(|needles| needles.into_iter().map(|n| String::from_utf8(n).expect("UTF-8")).collect());
        assert_eq!(needles, wanted.map(|wanted| wanted.iter().map(ToString::to_string).collect::<Vec<_>>()), "{text}");
    }

    #[test]
    fn what_every_match_must_hold_is_found_where_it_is_worth_a_search() {
        check_needles("error", false, Some(&["error"]));
        check_needles("error|warn", false, Some(&["error", "warn"]));
        check_needles(r"^level=(warn|error)\b", false, Some(&["level=warn", "level=error"]));
        check_needles(r"\d+ms timeout$", false, Some(&["ms timeout"]));
        check_needles("a|error", false, None);
        check_needles("(error)?", false, None);
        check_needles(r"^\S+ \d+", false, None);
        check_needles("error", true, None);
    }
}
