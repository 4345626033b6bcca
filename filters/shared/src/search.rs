//! Patterns put to work. Whether and where is a lazy DFA's job, some nanoseconds a byte at worst and never more than
//! linear; groups are looked for only in lines that match.

use std::ops::Range;

use regex_automata::hybrid::{self, dfa, regex};
use regex_automata::nfa::thompson::backtrack::BoundedBacktracker;
use regex_automata::nfa::thompson::pikevm::PikeVM;
use regex_automata::nfa::thompson::{Compiler, NFA, WhichCaptures, backtrack, pikevm};
use regex_automata::util::captures;
use regex_automata::util::prefilter::Prefilter;
use regex_automata::{Input, MatchKind, PatternID};
use regex_syntax::hir::Hir;

use crate::pattern::{Pattern, nfa_config};

/// A part of a line.
pub type Span = Range<usize>;

fn hirs(patterns: &[Pattern]) -> Vec<&Hir> {
    patterns.iter().map(|pattern| &pattern.hir).collect()
}

fn nfa(patterns: &[Pattern]) -> Result<NFA, String> {
    let built = Compiler::new().configure(nfa_config()).build_many_from_hir(&hirs(patterns));
    built.map_err(|error| together(patterns, &error))
}

fn together(patterns: &[Pattern], error: &dyn std::fmt::Display) -> String {
    format!("`{}`: all patterns together do not compile: {error}", patterns.first().map_or("", |pattern| &pattern.key))
}

fn dfa_config(patterns: &[Pattern]) -> dfa::Config {
    let prefilter = Prefilter::from_hirs_prefix(MatchKind::LeftmostFirst, &hirs(patterns));
    dfa::Config::new().prefilter(prefilter).skip_cache_capacity_check(true)
}

/// Whether a line has a match of any of several patterns.
pub struct Matcher {
    dfa: dfa::DFA,
    cache: dfa::Cache,
}

impl Matcher {
    /// Takes any number of patterns.
    pub fn new(patterns: &[Pattern]) -> Result<Matcher, String> {
        let built = dfa::DFA::builder().configure(dfa_config(patterns)).build_from_nfa(nfa(patterns)?);
        let dfa = built.map_err(|error| together(patterns, &error))?;
        Ok(Matcher { cache: dfa.create_cache(), dfa })
    }

    /// Whether there is one.
    pub fn is_match(&mut self, line: &[u8]) -> bool {
        let input = Input::new(line).earliest(true);
        // A lazy DFA fails only on bytes that it was told to stop at, or when it may give up: neither was asked for.
        self.dfa.try_search_fwd(&mut self.cache, &input).is_ok_and(|found| found.is_some())
    }
}

/// Where the matches of a pattern are.
pub struct Finder {
    regex: regex::Regex,
    cache: regex::Cache,
}

impl Finder {
    /// Takes one pattern.
    pub fn new(pattern: &Pattern) -> Result<Finder, String> {
        let patterns = std::slice::from_ref(pattern);
        let refused = |error: hybrid::BuildError| together(patterns, &error);
        let forward = dfa::DFA::builder().configure(dfa_config(patterns)).build_from_nfa(nfa(patterns)?);
        let backward = Compiler::new()
            .configure(nfa_config().reverse(true).which_captures(WhichCaptures::None))
            .build_from_hir(&pattern.hir);
        let backward = backward.map_err(|error| together(patterns, &error))?;
        let config = dfa::Config::new().match_kind(MatchKind::All).skip_cache_capacity_check(true);
        let backward = dfa::DFA::builder().configure(config).build_from_nfa(backward).map_err(refused)?;
        let regex = regex::Builder::new().build_from_dfas(forward.map_err(refused)?, backward);
        Ok(Finder { cache: regex.create_cache(), regex })
    }

    /// Calls `each` with every match, from left to right.
    pub fn find_all(&mut self, line: &[u8], mut each: impl FnMut(Span)) {
        self.regex.find_iter(&mut self.cache, line).for_each(|found| each(found.range()));
    }
}

/// The groups of the first match of a pattern.
pub struct Captures {
    matcher: Matcher,
    engine: Engine,
    groups: captures::Captures,
}

/// A backtracker, and for lines that are too long for it a slower one.
struct Engine {
    backtracker: BoundedBacktracker,
    visited: backtrack::Cache,
    pikevm: PikeVM,
    threads: pikevm::Cache,
}

impl Captures {
    /// Takes one pattern.
    pub fn new(pattern: &Pattern) -> Result<Captures, String> {
        let patterns = std::slice::from_ref(pattern);
        let nfa = nfa(patterns)?;
        let groups = captures::Captures::all(nfa.group_info().clone());
        let engine = Engine::new(patterns, &nfa)?;
        Ok(Captures { matcher: Matcher::new(patterns)?, engine, groups })
    }

    /// Names of the named groups, with their numbers.
    pub fn names(&self) -> Vec<(usize, String)> {
        let names = self.groups.group_info().pattern_names(PatternID::ZERO).enumerate();
        names.filter_map(|(at, name)| Some((at, name?.to_string()))).collect()
    }

    /// Number of groups, the whole match included.
    pub fn len(&self) -> usize {
        self.groups.group_len()
    }

    /// Never: the whole match is a group.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks for the first match from `start` on; its groups then are in [`Captures::group`].
    pub fn search(&mut self, line: &[u8], start: usize) -> bool {
        let rest = &line[start..];
        // Without a match the cheap engine says so first. (Not for a later start: what is before it counts for \b.)
        if start == 0 && !self.matcher.is_match(rest) {
            return false;
        }
        let input = Input::new(line).range(start..);
        let engine = &mut self.engine;
        if rest.len() < engine.backtracker.max_haystack_len() {
            // It fails only on longer lines.
            let _ = engine.backtracker.try_captures(&mut engine.visited, input, &mut self.groups);
        } else {
            engine.pikevm.captures(&mut engine.threads, input, &mut self.groups);
        }
        self.groups.is_match()
    }

    /// Where a group of the last match is.
    pub fn group(&self, at: usize) -> Option<Span> {
        self.groups.get_group(at).map(Span::from)
    }
}

impl Engine {
    fn new(patterns: &[Pattern], nfa: &NFA) -> Result<Engine, String> {
        let backtracker = BoundedBacktracker::new_from_nfa(nfa.clone()).map_err(|error| together(patterns, &error))?;
        let pikevm = PikeVM::new_from_nfa(nfa.clone()).map_err(|error| together(patterns, &error))?;
        let (visited, threads) = (backtracker.create_cache(), pikevm.create_cache());
        Ok(Engine { backtracker, visited, pikevm, threads })
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // Lists of spans; some have one.
mod tests {
    use super::*;

    fn pattern(text: &str, ignore_case: bool) -> Pattern {
        Pattern::new("p", text, ignore_case).expect(text)
    }

    fn check_match(texts: &[&str], line: &[u8], wanted: bool) {
        let patterns: Vec<Pattern> = texts.iter().map(|text| pattern(text, false)).collect();
        assert_eq!(Matcher::new(&patterns).expect("patterns").is_match(line), wanted, "{texts:?} {line:?}");
    }

    #[test]
    fn a_line_matches_if_one_of_the_patterns_does() {
        check_match(&["a|b", "^c"], b"xb", true);
        check_match(&["a|b", "^c"], b"c", true);
        check_match(&["a|b", "^c"], b"xc", false);
        check_match(&["(?x) a # comment", "c"], b"c", true);
        check_match(&["error$"], b"an error", true);
        check_match(&["error$"], b"errors", false);
        check_match(&[r"\bno\b"], b"know", false);
        check_match(&[], b"x", false);
        check_match(&[""], b"", true);
    }

    #[test]
    fn patterns_run_on_bytes() {
        check_match(&["^a.b$"], b"a\xffb", true);
        check_match(&["xä+$"], "xää".as_bytes(), true);
        check_match(&[r"^\w$"], "ä".as_bytes(), false);
        assert!(Matcher::new(&[pattern("abc", true)]).expect("abc").is_match(b"xABC"));
    }

    fn check_spans(text: &str, line: &str, wanted: &[Span]) {
        let mut spans = Vec::new();
        Finder::new(&pattern(text, false)).expect(text).find_all(line.as_bytes(), |span| spans.push(span));
        assert_eq!(spans, wanted, "{text} {line}");
    }

    #[test]
    fn all_matches_are_found() {
        check_spans(r"\d+", "a 12 b 3", &[2..4, 7..8]);
        check_spans("a|ab", "ab", &[0..1]);
        check_spans("ab|a", "ab", &[0..2]);
        check_spans("^a", "aa", &[0..1]);
        check_spans("ab", "xabab", &[1..3, 3..5]);
    }

    fn check_groups(text: &str, line: &str, wanted: Option<&[Option<&str>]>) {
        let mut captures = Captures::new(&pattern(text, false)).expect(text);
        let found = captures.search(line.as_bytes(), 0);
        let groups = (0..captures.len()).map(|at| captures.group(at).map(|span| &line[span]));
        assert_eq!(found.then(|| groups.collect::<Vec<_>>()).as_deref(), wanted, "{text} {line}");
    }

    #[test]
    fn groups_are_found_in_short_and_in_long_lines() {
        check_groups(r"^(\d+) (\w+)$", "12 ab", Some(&[Some("12 ab"), Some("12"), Some("ab")]));
        check_groups(r"(\d+)|(x)", "ab x", Some(&[Some("x"), None, Some("x")]));
        check_groups(r"(\d+)", "none", None);
        let long = format!("{} 7", "x".repeat(300_000));
        check_groups(r"(\d)", &long, Some(&[Some("7"), Some("7")]));
    }
}
