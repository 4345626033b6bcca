//! What the model knows: which lines were written, to which generation, and what may be said of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tailmill_tail::evidence::Verdict;
use tailmill_tail::{Evidence, FileKey};

use crate::common::world::World;
use crate::script::{Layout, Setting, Text};

/// So much has to be known of a copy to be sure.
pub const PROOF_BYTES: u64 = 1024;
/// Files that may be copies are held back for so long: the whole script.
const HOLD: Duration = Duration::from_secs(100_000);
/// A line of which all are equal.
pub const HEARTBEAT: &str = "heartbeat ok";

pub struct Model {
    pub world: World,
    pub setting: Setting,
    /// Number of the generation that is the log.
    pub generation: usize,
    /// Every line with its generation.
    pub written: BTreeMap<String, usize>,
    /// Lines written where all are equal.
    pub beats: usize,
    /// Of the line that was begun.
    pub partial: String,
    pub running: bool,
    /// A rotation to a name that tells nothing, which the agent did not see yet.
    pub unseen_away: bool,
    /// Lines that have to come although they are on the disk no more.
    pub owed: BTreeSet<String>,
    /// Generations of which lines may come twice.
    pub in_doubt: BTreeSet<usize>,
    /// Anything may come twice.
    pub all_in_doubt: bool,
    /// Truncated and written again since the last look: the generation that it was.
    pub rewritten: Option<usize>,
    /// Something was lost that nobody can count to the byte.
    pub lost_unclear: bool,
    /// The clock went back by a day: what was finished before was finished long ago.
    pub set_back: bool,
    /// Makes names that were not there before.
    pub count: usize,
    pub lost_bytes: u64,
    /// What the log's link leads to.
    pub target: String,
    /// The file that was rotated away last, as its writer has it open.
    pub old: Option<Old>,
    /// A copy, and of which generation.
    pub copy: Option<(String, usize)>,
    /// The last name with a date.
    pub dated: Option<String>,
}

pub struct Old {
    pub file: File,
    pub generation: usize,
    /// The pattern means its new name.
    pub meant: bool,
    /// The agent did not look since.
    pub fresh: bool,
}

impl Model {
    pub fn new(setting: Setting) -> Model {
        let mut world = World::new(&[match setting.layout {
            Layout::Plain | Layout::Linked => "app.log",
            Layout::Matching => "a*",
            Layout::Nested => "d*/app.log",
        }]);
        world.copy_hold = HOLD;
        world.specs[0].compressed = setting.compressed;
        world.restart();
        let mut model = Model {
            world,
            setting,
            generation: 0,
            written: BTreeMap::new(),
            beats: 0,
            partial: String::new(),
            running: true,
            unseen_away: false,
            owed: BTreeSet::new(),
            in_doubt: BTreeSet::new(),
            all_in_doubt: false,
            rewritten: None,
            lost_unclear: false,
            set_back: false,
            count: 0,
            lost_bytes: 0,
            target: "t/0.log".to_owned(),
            old: None,
            copy: None,
            dated: None,
        };
        for dir in ["t", "d"] {
            fs::create_dir(model.world.path(dir)).unwrap();
        }
        if setting.layout == Layout::Linked {
            model.world.link("t/0.log", "app.log");
        }
        model.create();
        model.world.scan();
        model
    }

    /// The file that the writer writes to.
    pub fn log(&self) -> String {
        match self.setting.layout {
            Layout::Plain | Layout::Matching => "app.log".to_owned(),
            Layout::Linked => self.target.clone(),
            Layout::Nested => "d/app.log".to_owned(),
        }
    }

    pub fn log_path(&self) -> PathBuf {
        self.world.path(&self.log())
    }

    /// A name in the log's directory that was not there before.
    pub fn beside(&mut self, name: &str) -> String {
        self.count += 1;
        let log = self.log();
        let dir = log.rfind('/').map_or("", |at| &log[..=at]);
        format!("{dir}{name}-{}", self.count)
    }

    pub fn matches_all(&self) -> bool {
        self.setting.layout == Layout::Matching
    }

    pub fn equal(&self) -> bool {
        self.setting.text == Text::Equal
    }

    /// What every file begins with.
    pub fn head(&self) -> String {
        match self.setting.text {
            Text::Headed => (0..60).map(|i| format!("# line {i} of a head that all files have\n")).collect(),
            _ => String::new(),
        }
    }

    /// A new log, empty but for its head.
    pub fn create(&mut self) {
        self.world.append(&self.log(), &self.head());
    }

    fn begin(&self, generation: usize) -> String {
        format!("generation {generation} line {} ", self.written.len())
    }

    /// Lines of a generation of which no two are equal (unless all are).
    pub fn lines(&mut self, generation: usize, lines: usize) -> String {
        if self.equal() {
            self.beats += lines;
            return format!("{HEARTBEAT}\n").repeat(lines);
        }
        let mut text = String::new();
        for _ in 0..lines {
            let begun = if generation == self.generation { std::mem::take(&mut self.partial) } else { String::new() };
            let more = if begun.is_empty() { self.begin(generation) } else { String::new() };
            text += &format!("{more}of a log\n");
            self.written.insert(format!("{begun}{more}of a log"), generation);
        }
        text
    }

    pub fn write_partial(&mut self) {
        // With a head that all have, a file may be taken for the rest of another one (known-issues.md): it is cut then.
        if self.equal() || (self.setting.text == Text::Headed && self.matches_all()) {
            return;
        }
        let begin = if self.partial.is_empty() { self.begin(self.generation) } else { String::new() };
        let text = format!("{begin}partial ");
        self.world.append(&self.log(), &text);
        self.partial += &text;
    }

    pub fn lines_of(&self, generation: usize) -> Vec<String> {
        self.written.iter().filter(|(_, of)| **of == generation).map(|(line, _)| line.clone()).collect()
    }

    /// The generation is over: a line that was begun is its last one.
    pub fn next_generation(&mut self) {
        if !self.partial.is_empty() {
            self.written.insert(std::mem::take(&mut self.partial), self.generation);
        }
        self.generation += 1;
        self.count += 1;
        self.old = None;
    }

    pub fn rotate(&mut self, to: &str) {
        let file = fs::OpenOptions::new().append(true).open(self.log_path()).unwrap();
        let whole = self.partial.is_empty(); // otherwise what it writes belongs to a line that may be shipped already
        let old = Old { file, generation: self.generation, meant: self.matches_all(), fresh: true };
        if let Some(was) = self.rewritten {
            // Copied, truncated, grown and renamed between two looks: the copy may be read as a generation of its own.
            self.in_doubt.extend(was..self.generation);
        }
        self.world.rename(&self.log(), to);
        self.next_generation();
        self.old = Some(old).filter(|_| whole);
        if self.setting.text == Text::Headed {
            // Only the times tell such files from each other.
            self.wait_for_tick(fs::metadata(self.world.path(to)).unwrap().modified().unwrap().min(SystemTime::now()));
        }
        self.create();
    }

    /// Looks and reads, twice: what the first one finds out about a truncated file is acted on by the second.
    pub fn look(&mut self) {
        for _ in 0..2 {
            self.world.scan();
            self.world.read_all();
        }
        self.world.scan();
        self.seen();
    }

    pub fn seen(&mut self) {
        self.unseen_away = false;
        self.rewritten = None;
        self.finished_some();
    }

    /// What was rotated away may be finished.
    pub fn finished_some(&mut self) {
        if let Some(old) = &mut self.old {
            old.fresh = false;
        }
    }

    pub fn look_if_running(&mut self) {
        if self.running {
            self.look();
        }
    }

    /// Removes a file. What is made from now on is born later, by the clock that stamps files: it is a coarse one, and
    /// a file with the same inode and the same birth is the same file.
    pub fn remove(&mut self, path: &Path) {
        let born = |path: &Path| fs::metadata(path).unwrap().created().unwrap();
        let last = born(path);
        fs::remove_file(path).unwrap();
        self.wait_for_tick(last);
    }

    /// Until what is made is born after `last`.
    pub fn wait_for_tick(&self, last: SystemTime) {
        let probe = self.world.path("t/probe");
        loop {
            File::create(&probe).unwrap();
            let now = fs::metadata(&probe).unwrap().created().unwrap();
            fs::remove_file(&probe).unwrap();
            if now > last {
                break;
            }
        }
    }

    pub fn stop(&mut self) {
        if self.running {
            self.world.stop();
            self.running = false;
        }
    }

    pub fn start(&mut self) {
        if !self.running {
            self.running = true;
            self.world.start();
            self.look();
        }
    }

    /// Nothing happens any more, and the agent has all the time it needs.
    pub fn end(&mut self) {
        self.start();
        for _ in 0..3 {
            self.look();
        }
        self.world.ahead += HOLD * 2;
        for _ in 0..3 {
            self.look();
        }
    }

    /// How much was read of the log, or seen before anything was read. None: nobody saw it.
    pub fn known_bytes(&mut self) -> Option<u64> {
        self.known_bytes_of(&self.log(), false)
    }

    pub fn known_bytes_of(&mut self, name: &str, finished_too: bool) -> Option<u64> {
        if self.running {
            self.world.checkpoint();
        }
        let file = File::open(self.world.path(name)).unwrap();
        let place = FileKey::of(&file.metadata().unwrap());
        let known = self.world.known_mut().iter();
        let here = known.filter(|known| known.place == place && (finished_too || !known.finished));
        here.filter(|known| known.evidence.check(&file).unwrap() == Verdict::Same)
            .map(|known| proven(&known.evidence))
            .max()
    }
}

fn proven(evidence: &Evidence) -> u64 {
    evidence.at.max(u64::from(evidence.prefix_len))
}
