//! Random scripts of what happens to a log and its agent, against a model that only knows which lines were written.
//!
//! Between two looks there is at most one rotation, and what is deleted was opened before: then every line has to come,
//! and exactly once unless the agent crashed (what was read after its last checkpoint comes again).
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs;

use common::world::World;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Action {
    Write(usize),
    WritePartial,
    /// Away to a new name; the writer makes a new file.
    Rename,
    /// To `app.log.1`, those before one further.
    RenameChain,
    CopyTruncate,
    /// The agent looked, and has it open.
    Delete,
    Scan,
    Read,
    Checkpoint,
    Restart,
    /// Stopped; the next rotation happens before it starts again.
    StopUntilRotated,
    Crash,
}

fn script() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        6 => (1..60_usize).prop_map(Action::Write),
        2 => Just(Action::WritePartial),
        2 => Just(Action::Rename),
        2 => Just(Action::RenameChain),
        2 => Just(Action::CopyTruncate),
        1 => Just(Action::Delete),
        3 => Just(Action::Scan),
        4 => Just(Action::Read),
        1 => Just(Action::Checkpoint),
        1 => Just(Action::Restart),
        2 => Just(Action::StopUntilRotated),
        1 => Just(Action::Crash),
    ];
    prop::collection::vec(action, 1..40)
}

struct Model {
    world: World,
    written: Vec<String>,
    /// Of the line that was begun.
    partial: String,
    running: bool,
    /// A rotation happened that the agent did not see yet.
    unseen: bool,
    crashed: bool,
    rotations: usize,
}

impl Model {
    fn new(pattern: &str) -> Model {
        let mut world = World::new(&[pattern]);
        world.append("app.log", "");
        world.scan();
        Model {
            world,
            written: vec![],
            partial: String::new(),
            running: true,
            unseen: false,
            crashed: false,
            rotations: 0,
        }
    }

    fn play(&mut self, action: &Action) {
        match action {
            Action::Write(lines) => self.write(*lines),
            Action::WritePartial => {
                let text = format!("partial {} ", self.written.len());
                self.world.append("app.log", &text);
                self.partial += &text;
            }
            Action::Rename => self.rotate(|model| {
                model.world.rename("app.log", &format!("away-{}", model.rotations));
                model.world.append("app.log", "");
            }),
            Action::RenameChain => self.rotate(|model| {
                for i in (1..=model.rotations).rev() {
                    let (from, to) = (format!("app.log.{i}"), format!("app.log.{}", i + 1));
                    if model.world.path(&from).exists() {
                        model.world.rename(&from, &to);
                    }
                }
                model.world.rename("app.log", "app.log.1");
                model.world.append("app.log", "");
            }),
            Action::CopyTruncate => {
                // What nobody has read a line of cannot be recognised in its copy.
                if self.known_bytes() > 0 {
                    self.rotate(|model| {
                        let copy = model.world.path(&format!("app.log.copy-{}", model.rotations));
                        fs::copy(model.world.path("app.log"), copy).unwrap();
                        fs::File::create(model.world.path("app.log")).unwrap();
                    });
                }
            }
            Action::Delete => {
                if self.running {
                    self.look();
                    self.rotate(|model| {
                        fs::remove_file(model.world.path("app.log")).unwrap();
                        model.world.append("app.log", "");
                    });
                    self.look();
                    self.world.read_all();
                }
            }
            Action::Scan => self.look(),
            Action::Read if self.running => self.world.read_all(),
            Action::Checkpoint if self.running => self.world.checkpoint(),
            Action::Read | Action::Checkpoint => {}
            Action::Restart => {
                self.stop();
                self.start();
            }
            Action::StopUntilRotated => self.stop(),
            Action::Crash if self.running => {
                self.look();
                self.crashed = true;
                self.world.crash();
                self.world.start();
                self.world.scan();
            }
            Action::Crash => {}
        }
    }

    /// Writes lines of which no two are equal.
    fn write(&mut self, lines: usize) {
        let mut text = String::new();
        for _ in 0..lines {
            let line = format!("{}line {} of a log", std::mem::take(&mut self.partial), self.written.len());
            let begun = line.find("line").unwrap();
            text += &format!("{}\n", &line[begun..]);
            self.written.push(line);
        }
        self.world.append("app.log", &text);
    }

    fn rotate(&mut self, how: impl FnOnce(&mut Model)) {
        if self.unseen {
            self.look();
        }
        self.rotations += 1;
        how(self);
        if !self.partial.is_empty() {
            self.written.push(std::mem::take(&mut self.partial));
        }
        self.unseen = true;
    }

    /// Two looks: what the first one finds out about a truncated file is acted on by the second.
    fn look(&mut self) {
        if !self.running {
            return self.start();
        }
        self.world.scan();
        if self.unseen {
            self.world.read_all();
            self.world.scan();
        }
        self.unseen = false;
    }

    fn stop(&mut self) {
        if self.running {
            self.look();
            self.world.stop();
            self.running = false;
        }
    }

    fn start(&mut self) {
        if !self.running {
            self.running = true;
            self.world.start();
            self.look();
        }
    }

    /// How much is known of the file that is `app.log` now.
    fn known_bytes(&mut self) -> u64 {
        if self.unseen {
            self.look();
        }
        if self.running {
            self.world.read_all();
            self.world.checkpoint();
        }
        let home = self.world.path("app.log");
        let live = self.world.known_mut().iter().filter(|known| known.path == home && !known.finished);
        live.map(|known| known.evidence.at).next_back().unwrap_or(0)
    }

    fn settle(&mut self) {
        self.start();
        for _ in 0..4 {
            self.world.scan();
            self.world.read_all();
        }
    }
}

fn check(pattern: &str, script: &[Action]) -> Result<(), TestCaseError> {
    let mut model = Model::new(pattern);
    for action in script {
        model.play(action);
    }
    model.settle();
    let mut delivered = model.world.delivered.clone();
    let mut written = model.written.clone();
    written.sort();
    delivered.sort();
    if model.crashed {
        delivered.dedup();
    }
    prop_assert_eq!(delivered, written);
    Ok(())
}

proptest! {
    #![proptest_config(common::scripts(500))]

    #[test]
    fn every_line_comes_whatever_happens_to_the_file(script in script()) {
        check("app.log", &script)?;
    }

    #[test]
    fn every_line_comes_also_when_rotated_files_match_the_pattern(script in script()) {
        // Copies of a file that is still there are other files: they come again, and are left out here.
        let script: Vec<_> = script.into_iter().filter(|action| !matches!(action, Action::CopyTruncate)).collect();
        check("a*", &script)?;
    }
}
