//! Random scripts of what happens to a log and its agent, against a model that only knows which lines were written.
//!
//! What has to hold: every line that is still on the disk, in whatever file, was delivered; so was what was deleted
//! while the agent had it open. The lines of one opened file come in their order and are of one generation. Nothing
//! comes twice unless the agent crashed, or so little of a copy was read that it is in doubt. What was seen and is
//! nowhere any more is counted, to the byte.
//!
//! A script that fails is shrunk and printed as a regression case: put it into `regressions.rs`.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "test code")]

#[path = "../common/mod.rs"]
mod common;
mod model;
mod play;
mod regressions;
mod script;
mod verdict;

use std::cell::Cell;
use std::io::Write;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestError, TestRunner};

use script::Layout::*;
use script::Text::*;
use script::{Action, Setting, script};
use verdict::Tally;

/// So many random scripts, unless the environment asks for another number.
const SCRIPTS: u32 = 1000;
/// Where TAILMILL_SCRIPTS_SEED names no other: the same scripts each time, so that a build fails for what was changed in it
/// and nothing else. `make soak` draws others.
const SEED: u64 = 101;

fn check(setting: Setting, script: &[Action]) -> Result<(), TestCaseError> {
    check_and_count(setting, script, &Cell::default())
}

fn check_and_count(setting: Setting, script: &[Action], tally: &Cell<Tally>) -> Result<(), TestCaseError> {
    let mut model = model::Model::new(setting);
    script.iter().for_each(|action| model.play(action));
    model.end();
    tally.set(tally.get().with(&model));
    verdict::check(&model)
}

/// Plays random scripts, and says what they came to.
fn run(name: &str, settings: impl Strategy<Value = Setting>) {
    let tally = Cell::new(Tally::default());
    let seed = std::env::var("TAILMILL_SCRIPTS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let config = ProptestConfig { rng_seed: RngSeed::Fixed(seed), ..common::scripts(SCRIPTS) };
    let outcome = TestRunner::new(config)
        .run(&(settings, script()), |(setting, script)| check_and_count(setting, &script, &tally));
    let Tally { scripts, written, missing, repeated } = tally.get();
    say(&format!("{name}: {scripts} scripts: {written} lines written, {missing} missing, {repeated} repeated"));
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, (setting, script))) => {
            panic!("{why}\n\nas a regression case:\n    holds({setting:?}, &{script:?});\n")
        }
        Err(other) => panic!("{other}"),
    }
}

/// To the handle itself: what is printed with a macro is not shown of a test that passes.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

fn settings(layouts: &[script::Layout], texts: &[script::Text]) -> impl Strategy<Value = Setting> {
    let (layouts, texts) = (layouts.to_vec(), texts.to_vec());
    (prop::sample::select(layouts), prop::sample::select(texts), any::<bool>())
        .prop_map(|(layout, text, compressed)| Setting { layout, text, compressed })
}

#[test]
fn every_line_comes_whatever_happens_to_the_file() {
    run("files model, one file", settings(&[Plain], &[Distinct, Headed]));
}

#[test]
fn every_line_comes_also_when_rotated_files_match_the_pattern() {
    run("files model, rotated files match", settings(&[Matching], &[Distinct, Headed]));
}

#[test]
fn every_line_comes_through_a_link_and_from_directories_that_are_replaced() {
    run("files model, links and directories", settings(&[Linked, Nested], &[Distinct, Headed]));
}

#[test]
fn of_equal_lines_none_is_missing() {
    run("files model, equal lines", settings(&[Plain, Matching, Linked, Nested], &[Equal]));
}
