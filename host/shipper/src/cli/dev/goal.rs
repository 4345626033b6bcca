//! When a session with `--once` is done, and what goes wrong on the way. Looks at views; decides without a clock of its
//! own.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tailmill_tail::PathPatterns;
use tailmill_tail::paths::Step;

use crate::model::exit;
use crate::observe::{Part, View};

/// Nothing moved for so long: a held line or a last line without its newline will not come any more.
const QUIET: Duration = Duration::from_secs(3);

/// What is there to be shipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Goal {
    /// Bytes of whole lines in all files.
    pub(super) bytes: u64,
}

/// What to do after a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    GoOn,
    /// Tell the person, once.
    Say(String),
    Done,
    /// Stop with this message and exit code.
    Failed(String, i32),
}

/// Looks at views, one after the other.
#[derive(Debug)]
pub(super) struct Watcher {
    goal: Option<Goal>,
    progress: [u64; 5],
    moved: Option<Instant>,
    said: HashSet<String>,
}

impl Goal {
    /// What stands in the files that match now.
    pub(super) fn of<'p>(all: impl Iterator<Item = &'p PathPatterns>) -> Goal {
        let mut seen = HashSet::new();
        let mut bytes = 0;
        for path in all.flat_map(matching) {
            let known = fs::metadata(&path).map(|facts| seen.insert((facts.dev(), facts.ino())));
            if known.is_ok_and(|new| new) {
                bytes += whole_lines(&path).unwrap_or(0);
            }
        }
        Goal { bytes }
    }
}

impl Watcher {
    /// Without a goal there is no end.
    pub(super) fn new(goal: Option<Goal>) -> Watcher {
        Watcher { goal, progress: [0; 5], moved: None, said: HashSet::new() }
    }

    /// `seen`: records that were printed.
    pub(super) fn look(&mut self, view: &View, seen: u64, now: Instant) -> Verdict {
        let troubled = view.health.iter().find(|health| matches!(health.part, Part::Entry(_)));
        if let Some(message) = troubled.and_then(|health| health.trouble.clone()) {
            return Verdict::Failed(message, exit::USAGE);
        }
        let ledger = view.total().0;
        let progress = [
            ledger.read.bytes,
            ledger.rewound.bytes,
            ledger.records_acked,
            ledger.pending.bytes,
            ledger.filtered.lines,
        ];
        // Before the plan is in force modules are compiled, which takes as long as it takes.
        if view.plan.is_none() || self.moved.is_none() || progress != self.progress {
            self.progress = progress;
            self.moved = Some(now);
        }
        let quiet = self.moved.is_some_and(|moved| now.saturating_duration_since(moved) >= QUIET);
        let blocked = (ledger.blocked_streams > 0).then(|| view.not_ready().join("; "));
        let Some(goal) = self.goal else { return self.say(blocked) };
        if view.plan.is_none() || seen < ledger.records_acked {
            return self.say(blocked);
        }
        let read = ledger.read.bytes.saturating_sub(ledger.rewound.bytes);
        match blocked {
            Some(message) if quiet => Verdict::Failed(message, exit::FAILED),
            None if quiet || (read >= goal.bytes && ledger.pending.is_zero()) => Verdict::Done,
            _ => Verdict::GoOn,
        }
    }

    fn say(&mut self, message: Option<String>) -> Verdict {
        match message {
            Some(message) if self.said.insert(message.clone()) => Verdict::Say(message),
            _ => Verdict::GoOn,
        }
    }
}

/// Bytes up to and with the last newline.
fn whole_lines(path: &Path) -> std::io::Result<u64> {
    const STEP: u64 = 64 << 10;
    let mut file = fs::File::open(path)?;
    let mut end = file.metadata()?.len();
    let mut bytes = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        bytes.clear();
        Read::by_ref(&mut file).take(end - start).read_to_end(&mut bytes)?;
        if let Some(newline) = memchr::memrchr(b'\n', &bytes) {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Regular files that match.
fn matching(patterns: &PathPatterns) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for root in patterns.roots() {
        walk(root.dir(), root.steps(), &mut found);
    }
    found.retain(|path| patterns.matches(path) && fs::metadata(path).is_ok_and(|facts| facts.is_file()));
    found.sort();
    found.dedup();
    found
}

fn walk(dir: &Path, steps: &[Step], found: &mut Vec<PathBuf>) {
    let Some((step, rest)) = steps.split_first() else { return };
    if matches!(step, Step::AnyDepth) {
        // None of the directories, or one of them and again any depth.
        walk(dir, rest, found);
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| step.takes(&entry.file_name())) {
        let path = entry.path();
        // Links to directories are not followed below `**`: they may lead in circles.
        let below = match step {
            Step::AnyDepth => entry.file_type().is_ok_and(|kind| kind.is_dir()).then_some(steps),
            _ => path.is_dir().then_some(rest),
        };
        match below {
            Some(steps) => walk(&path, steps, found),
            None => found.push(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LineCount;
    use crate::observe::EntryLedger;
    use crate::observe::view::{EntryView, HealthView};

    fn view(ledger: EntryLedger) -> View {
        let entry = EntryView { ledger, ..EntryView::new("dev".into()) };
        View { plan: Some((1, vec![])), entries: vec![entry], ..View::default() }
    }

    fn bytes(bytes: u64) -> LineCount {
        LineCount { lines: bytes / 10, bytes }
    }

    /// Looks at the same view after so many seconds each; gives the last verdict.
    fn looks(goal: Option<u64>, ledger: EntryLedger, seen: u64, seconds: &[u64]) -> Verdict {
        let mut watcher = Watcher::new(goal.map(|bytes| Goal { bytes }));
        let start = Instant::now();
        let view = view(ledger);
        let verdicts = seconds.iter().map(|s| watcher.look(&view, seen, start + Duration::from_secs(*s)));
        verdicts.last().unwrap()
    }

    #[test]
    fn once_is_done_when_everything_is_read_resolved_and_shown() {
        let all = EntryLedger { read: bytes(100), delivered: bytes(100), records_acked: 10, ..Default::default() };
        assert_eq!(looks(Some(100), all.clone(), 10, &[0]), Verdict::Done);
        assert_eq!(looks(Some(100), all.clone(), 9, &[0, 60]), Verdict::GoOn, "one is not shown yet");
        assert_eq!(looks(Some(101), all.clone(), 10, &[0]), Verdict::GoOn, "one byte is not read");
        let pending = EntryLedger { pending: bytes(10), ..all.clone() };
        assert_eq!(looks(Some(100), pending, 10, &[0]), Verdict::GoOn);
        let again = EntryLedger { read: bytes(150), rewound: bytes(100), ..all.clone() };
        assert_eq!(looks(Some(100), again, 10, &[0]), Verdict::GoOn, "half of it must be read again");
        assert_eq!(looks(None, all, 10, &[0, 60]), Verdict::GoOn, "without --once there is no end");
        assert_eq!(looks(Some(0), EntryLedger::default(), 0, &[0]), Verdict::Done, "no file at all");
    }

    #[test]
    fn once_gives_up_on_what_will_not_come_when_nothing_moves() {
        let held = EntryLedger { read: bytes(100), pending: bytes(10), ..Default::default() };
        assert_eq!(looks(Some(100), held.clone(), 0, &[0, 2]), Verdict::GoOn);
        assert_eq!(looks(Some(100), held, 0, &[0, 3]), Verdict::Done);
    }

    #[test]
    fn a_module_that_is_still_being_compiled_is_waited_for() {
        let mut watcher = Watcher::new(Some(Goal { bytes: 10 }));
        let start = Instant::now();
        let compiling = View::default();
        for seconds in 0..60 {
            assert_eq!(watcher.look(&compiling, 0, start + Duration::from_secs(seconds)), Verdict::GoOn);
        }
        let armed = view(EntryLedger::default());
        let verdict = watcher.look(&armed, 0, start + Duration::from_secs(60));
        assert_eq!(verdict, Verdict::GoOn, "reading has only begun");
    }

    #[test]
    fn a_blocked_stream_fails_once_and_is_said_otherwise() {
        let blocked = EntryLedger { read: bytes(100), pending: bytes(50), blocked_streams: 1, ..Default::default() };
        let why = || "entry dev: 1 stream blocked".to_owned();
        assert_eq!(looks(Some(100), blocked.clone(), 0, &[0]), Verdict::GoOn);
        assert_eq!(looks(Some(100), blocked.clone(), 0, &[0, 3]), Verdict::Failed(why(), exit::FAILED));
        assert_eq!(looks(None, blocked.clone(), 0, &[0]), Verdict::Say(why()));
        assert_eq!(looks(None, blocked, 0, &[0, 1]), Verdict::GoOn, "said already");
    }

    #[test]
    fn an_entry_that_cannot_be_armed_ends_the_session() {
        let part = Part::Entry("dev".into());
        let health = vec![HealthView { part, trouble: Some("not wasm".into()), since_ms: 0 }];
        let view = View { health, ..View::default() };
        let verdict = Watcher::new(None).look(&view, 0, Instant::now());
        assert_eq!(verdict, Verdict::Failed("not wasm".into(), exit::USAGE));
    }

    #[test]
    fn the_goal_counts_whole_lines_of_each_matching_file_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("one.log"), "12345\n789").unwrap();
        fs::write(at("none.log"), "no newline").unwrap();
        fs::write(at("big.log"), format!("\n{}", "x".repeat(200_000))).unwrap();
        fs::write(at("a/b/deep.log"), "1\n2\n").unwrap();
        fs::write(at("other.txt"), "1\n").unwrap();
        fs::hard_link(at("one.log"), at("same.log")).unwrap();
        std::os::unix::fs::symlink("..", at("a/circle")).unwrap();
        let check = |glob: &str, expected: u64| {
            let patterns = PathPatterns::new(&[format!("{}/{glob}", dir.path().display())], &[]).unwrap();
            assert_eq!(Goal::of([&patterns].into_iter()), Goal { bytes: expected }, "{glob}");
        };
        check("*.log", 6 + 1);
        check("**/*.log", 6 + 1 + 4);
        check("a/*/deep.log", 4);
        check("one.log", 6);
        check("missing.log", 0);
    }
}
