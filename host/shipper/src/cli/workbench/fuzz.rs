//! `--fuzz`: mutated lines, thrown at the filter whole, cut into batches at random, and laid out with other lines between.
//!
//! The contract says that an answer must not depend on how lines are cut, nor on what lies between them; and no line may be
//! a fault. What breaks that is shrunk to the smallest input that still does.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tailmill_engine::FaultKind;

use super::diff::{line, unified};
use super::lines::{self, Between};
use super::mutate::{self, Random};
use super::record::shown;
use super::runner::{Candidate, How, Ran};
use super::shrink::{Groups, shrink};
use crate::app::Workshop;
use crate::observe::text::{Paint, counted};

/// Lines of one round.
const ROUND_LINES: usize = 200;
/// A person waits: the smallest input found by then is shown.
const SHRINK_TIME: Duration = Duration::from_secs(20);
const SHRINK_TRIES: usize = 5_000;

/// What is asked for.
pub(super) struct Order {
    pub(super) lines: u64,
    pub(super) seed: u64,
    /// An error that the filter returns is an answer.
    pub(super) may_refuse: bool,
}

/// How lines are given, beside all in one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In batches.
    Cut,
    /// In batches, each to a new instance: what is stateless remembers nothing.
    CutFresh,
    /// In batches with other lines between them, as behind another filter.
    CutSpread,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wrong {
    Fault(FaultKind, String),
    Differs,
}

/// A failure, as small as it could be made.
pub(super) struct Failure {
    groups: Groups,
    way: Way,
    wrong: Wrong,
    whole: Ran,
    cut: Ran,
}

/// A seed that nobody chose.
pub(super) fn any_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Short enough to be typed again.
    Random::new(since.as_nanos() as u64).next() % 1_000_000
}

/// Throws lines made from `corpus`. `None`: nothing is wrong.
pub(super) fn run(
    candidate: &Candidate,
    shop: &Workshop,
    path: &Path,
    corpus: &[&[u8]],
    order: &Order,
) -> Option<Failure> {
    let fuzzer = Fuzzer { candidate, shop, path, may_refuse: order.may_refuse };
    let mut random = Random::new(order.seed);
    let nothing: &[&[u8]] = &[b""];
    let corpus = if corpus.is_empty() { nothing } else { corpus };
    let mut left = order.lines;
    while left > 0 {
        let count = (1 + random.below(ROUND_LINES)).min(usize::try_from(left).unwrap_or(ROUND_LINES));
        left -= count as u64;
        let lines = mutate::lines(corpus, count, &mut random);
        let groups = mutate::cut(&lines, &mut random);
        for way in fuzzer.ways() {
            if let Some(wrong) = fuzzer.judge(&groups, way) {
                return Some(fuzzer.made_small(groups, way, wrong));
            }
        }
    }
    None
}

struct Fuzzer<'a> {
    candidate: &'a Candidate,
    shop: &'a Workshop,
    path: &'a Path,
    may_refuse: bool,
}

impl Fuzzer<'_> {
    fn ways(&self) -> Vec<Way> {
        let mut ways = vec![Way::Cut, Way::CutSpread];
        if self.candidate.traits.stateless {
            ways.push(Way::CutFresh);
        }
        ways
    }

    fn whole(&self, groups: &Groups) -> Ran {
        let batches = lines::batches(&[groups.concat()], Between::Nothing);
        self.candidate.run(self.shop, self.path, batches, How::default())
    }

    fn cut(&self, groups: &Groups, way: Way) -> Ran {
        let between = if way == Way::CutSpread { Between::Others } else { Between::Nothing };
        let how = How { fresh: way == Way::CutFresh };
        self.candidate.run(self.shop, self.path, lines::batches(groups, between), how)
    }

    fn judge(&self, groups: &Groups, way: Way) -> Option<Wrong> {
        let whole = self.whole(groups);
        if let Some(fault) = self.fault(&whole) {
            return Some(fault);
        }
        let cut = self.cut(groups, way);
        self.fault(&cut).or_else(|| (!whole.same_as(&cut)).then_some(Wrong::Differs))
    }

    fn fault(&self, ran: &Ran) -> Option<Wrong> {
        let stuck = ran.stuck.iter();
        let guilty = ran.faults.iter().filter(|fault| !(self.may_refuse && fault.kind == FaultKind::Refused));
        stuck.chain(guilty).map(|fault| Wrong::Fault(fault.kind, fault.message.clone())).next()
    }

    fn made_small(&self, groups: Groups, way: Way, wrong: Wrong) -> Failure {
        let (until, mut tries) = (Instant::now() + SHRINK_TIME, SHRINK_TRIES);
        let same_kind = |other: &Wrong| match (&wrong, other) {
            (Wrong::Fault(kind, _), Wrong::Fault(other, _)) => kind == other,
            (Wrong::Differs, Wrong::Differs) => true,
            _ => false,
        };
        let small = shrink(groups, |groups| {
            tries = tries.checked_sub(1).filter(|_| Instant::now() < until)?;
            Some(self.judge(groups, way).is_some_and(|found| same_kind(&found)))
        });
        let wrong = self.judge(&small, way).unwrap_or(wrong);
        Failure { whole: self.whole(&small), cut: self.cut(&small, way), groups: small, way, wrong }
    }
}

impl Failure {
    fn headline(&self) -> String {
        match (&self.wrong, self.way) {
            (Wrong::Fault(kind, message), _) => format!("a line is a fault: {kind}: {message}"),
            (_, Way::Cut) => "the answers depend on how lines are cut into batches".to_owned(),
            (_, Way::CutFresh) => "it says that it is stateless, and a new instance answers otherwise".to_owned(),
            (_, Way::CutSpread) => {
                "the answers depend on what lies between lines: it must use their positions, not look for newlines"
                    .to_owned()
            }
        }
    }

    /// For a person.
    pub(super) fn text(&self, paint: Paint, input: &str, topics: &[String]) -> String {
        let mut text = format!("{} {}\n", paint.bad("failed:"), self.headline());
        let lines = counted(self.groups.concat().len() as u64, "line");
        let batches = match self.groups.len() {
            1 => "one batch".to_owned(),
            n => format!("{n} batches"),
        };
        let _ = writeln!(text, "the smallest input from {input} that does it, {lines} in {batches}:");
        for (i, group) in self.groups.iter().enumerate() {
            let _ = writeln!(text, "{}", paint.faint(&format!("  batch {}", i + 1)));
            group.iter().for_each(|bytes| line(&mut text, &format!("    \"{}\"", shown(bytes))));
        }
        if self.wrong == Wrong::Differs {
            let texts = |ran: &Ran| -> Vec<String> {
                let records =
                    ran.records.iter().map(|record| format!("{} (line {})", record.text(topics), record.line + 1));
                records
                    .chain(ran.faults.iter().map(|fault| fault.text()))
                    .chain([format!("held: {}", ran.held)])
                    .collect()
            };
            let _ = writeln!(text, "as one batch (-), so cut (+):");
            text += &unified(&texts(&self.whole), &texts(&self.cut), paint).unwrap_or_default();
        }
        text
    }

    /// For a program.
    pub(super) fn json(&self, input: &str) -> Value {
        let batches: Vec<Vec<String>> =
            self.groups.iter().map(|group| group.iter().map(|line| shown(line)).collect()).collect();
        json!({ "input": input, "what": self.headline(), "batches": batches })
    }
}
