//! `tailmill test`: a filter's answers against the eye, against cases, against another version, against itself.
//!
//! Lines come from files and from the inputs of cases. A fault, or a difference, is exit code 1.

mod against; // another version on the same lines
mod cases; // NAME.input and NAME.expected

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::lines::Text;
use super::runner::{Candidate, How, Ran};
use super::show::Shown;
use super::{ModuleArgs, Stop, code, fuzz, workshop};
use crate::app::Workshop;
use crate::cli::dev::filters::FilterArg;
use crate::cli::output::note;
use crate::cli::{complain, say};
use crate::model::exit;
use crate::observe::text::{Paint, counted};

pub(in crate::cli) const EXAMPLES: &str = r#"Examples:
  tailmill test grep app.log --with '{"include": "error"}'     what becomes of each line
  tailmill test mine.wasm --cases cases                        what continuous integration runs
  tailmill test mine.wasm --cases cases --update               takes the answers of now as expected
  tailmill test new.wasm app.log --against old.wasm            where two versions differ
  tailmill test mine.wasm app.log --fuzz 10000                 mutated lines, cut into batches at random

A case is NAME.input, NAME.expected (its records, one a line) and, if there is a configuration, NAME.json. Where keys,
topics, headers or faults matter the expected file is NAME.expected.jsonl, one JSON object a record.
The filter's clock stands at 2026-01-01T00:00:00Z. Exits with 1 on a difference or a fault, 64 on bad usage."#;

#[derive(Args, Debug)]
pub(in crate::cli) struct TestArgs {
    #[command(flatten)]
    module: ModuleArgs,
    /// Files of lines
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A directory of cases: NAME.input, NAME.expected, NAME.json
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// Write what the filter answers now into the expected files
    #[arg(long, requires = "cases", conflicts_with_all = ["against", "fuzz"])]
    update: bool,
    /// Another version (or another configuration): show where the answers differ
    #[arg(long, value_name = "OTHER[:JSON]", value_parser = FilterArg::parse)]
    against: Option<FilterArg>,
    /// Throw this many mutated lines at it, cut into batches at random
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    fuzz: Option<u64>,
    /// Where the mutations begin; the same lines each time (default: another one each time, printed)
    #[arg(long, value_name = "SEED", requires = "fuzz")]
    seed: Option<u64>,
    /// The filter may refuse lines (an error of its own is no failure)
    #[arg(long, requires = "fuzz")]
    may_refuse: bool,
    /// Show every line, also those far from any change
    #[arg(long)]
    all: bool,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

/// Lines with the configuration that they are for.
struct Subject {
    name: String,
    with: String,
    text: Text,
}

/// What one part of a test found: for programs, and whether it is a failure.
type Found = (Value, bool);

pub(in crate::cli) fn run(args: &TestArgs) -> i32 {
    code(test(args))
}

/// Runs the cases in a directory, as `tailmill test FILE --cases DIR` does.
pub(in crate::cli) fn run_cases(module: &std::path::Path, cases: &std::path::Path) -> i32 {
    run(&TestArgs {
        module: ModuleArgs::of_file(module),
        files: Vec::new(),
        cases: Some(cases.to_owned()),
        update: false,
        against: None,
        fuzz: None,
        seed: None,
        may_refuse: false,
        all: false,
        json: false,
    })
}

fn test(args: &TestArgs) -> Result<i32, Stop> {
    if args.files.is_empty() && args.cases.is_none() {
        return Err(Stop::usage("there are no lines: name FILE…, or --cases DIR"));
    }
    args.module.check()?;
    let found_cases = args.cases.as_deref().map(cases::find).transpose()?.unwrap_or_default();
    let files = files(args)?;
    let shop = workshop()?;
    let mut session = Session { args, shop: &shop, paint: Paint::for_stream(&std::io::stdout()) };
    let mut found: Vec<(&str, Found)> = Vec::new();
    if let Some(other) = &args.against {
        let subjects = files.into_iter().chain(cases::subjects(&found_cases, args.module.with())?).collect();
        found.push(("against", against::compare(&mut session, other, subjects)?));
    } else {
        if !found_cases.is_empty() {
            found.push(("cases", cases::check(&mut session, &found_cases)?));
        }
        match args.fuzz {
            Some(lines) => {
                let subjects: Vec<Subject> =
                    files.into_iter().chain(cases::subjects(&found_cases, args.module.with())?).collect();
                found.push(("fuzz", fuzz_all(&mut session, lines, &subjects)?));
            }
            None => {
                for subject in &files {
                    let candidate = session.candidate(&args.module.module, &subject.with)?;
                    found.push(("file", session.show(&candidate, subject)));
                }
            }
        }
    }
    let failed = found.iter().any(|(_, (_, failed))| *failed);
    if args.json {
        let parts: Vec<Value> = found
            .into_iter()
            .map(|(kind, (value, failed))| json!({ "kind": kind, "failed": failed, "found": value }))
            .collect();
        say(&format!("{:#}\n", json!({ "failed": failed, "parts": parts })));
    }
    Ok(if failed { exit::FAILED } else { exit::CLEAN })
}

fn files(args: &TestArgs) -> Result<Vec<Subject>, Stop> {
    let subject = |path: &PathBuf| {
        let text = Text::read(path)?;
        Ok(Subject { name: path.display().to_string(), with: args.module.with().to_owned(), text })
    };
    args.files.iter().map(subject).collect()
}

/// What all parts of a test share.
struct Session<'a> {
    args: &'a TestArgs,
    shop: &'a Workshop,
    paint: Paint,
}

impl Session<'_> {
    /// Facts for a person; a program gets them at the end.
    fn tell(&self, text: &str) {
        if !self.args.json {
            say(text);
        }
    }

    /// The filter with a configuration of its own.
    fn candidate(&self, module: &FilterArg, with: &str) -> Result<Candidate, Stop> {
        let plan = self.args.module.plan_of(module, with)?;
        Candidate::arm(self.shop, plan, &self.args.module.topic)
    }

    fn run(&self, candidate: &Candidate, subject: &Subject) -> Ran {
        candidate.run(self.shop, &subject.text.path, subject.text.batches.clone(), How::default())
    }

    /// What becomes of the lines of a file.
    fn show(&mut self, candidate: &Candidate, subject: &Subject) -> Found {
        let ran = self.run(candidate, subject);
        let lines = subject.text.lines();
        let shown = Shown::new(&lines, &ran, &self.args.module.topic);
        let counts = shown.counts();
        if self.args.files.len() > 1 {
            self.tell(&format!("{}\n", self.paint.strong(&subject.name)));
        }
        self.tell(&shown.text(self.paint, self.args.all));
        self.tell(&format!("{}\n", self.paint.faint(&counts.text())));
        self.told(&ran);
        let mut value = counts.json();
        value["file"] = json!(subject.name);
        value["faults"] = ran.all_faults().map(|fault| fault.json()).collect();
        (value, ran.all_faults().next().is_some())
    }

    /// What the filter itself had to say, and where it got stuck.
    fn told(&self, ran: &Ran) {
        ran.notes.iter().for_each(|text| note(text));
        if let Some(stuck) = &ran.stuck {
            complain(&format!(
                "the filter could not be started again behind line {}: {}: {}",
                stuck.line + 1,
                stuck.kind,
                stuck.message
            ));
        }
    }
}

fn fuzz_all(session: &mut Session<'_>, lines: u64, subjects: &[Subject]) -> Result<Found, Stop> {
    let seed = session.args.seed.unwrap_or_else(fuzz::any_seed);
    let each = lines.div_ceil(subjects.len().max(1) as u64);
    for subject in subjects {
        let candidate = session.candidate(&session.args.module.module, &subject.with)?;
        let corpus = subject.text.lines();
        let order = fuzz::Order { lines: each, seed, may_refuse: session.args.may_refuse };
        if let Some(failure) = fuzz::run(&candidate, session.shop, &subject.text.path, &corpus, &order) {
            session.tell(&failure.text(session.paint, &subject.name, &session.args.module.topic));
            session.tell(&format!("seed {seed}: the same lines again with --fuzz {lines} --seed {seed}\n"));
            return Ok((json!({ "seed": seed, "failure": failure.json(&subject.name) }), true));
        }
    }
    let inputs = counted(subjects.len() as u64, "input");
    session.tell(&format!(
        "{} of mutations from {inputs}: no fault, and the same answers however they were cut (seed {seed})\n",
        counted(lines, "line")
    ));
    Ok((json!({ "seed": seed, "lines": lines }), false))
}
