//! What each action does to the files, the agent and the model.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use tailmill_tail::FileKey;

use crate::model::{Model, PROOF_BYTES};
use crate::script::{Action, Layout};

const DAY_MS: i64 = 86_400_000;

impl Model {
    pub fn play(&mut self, action: &Action) {
        match action {
            Action::Write(lines) => {
                let text = self.lines(self.generation, *lines);
                self.world.append(&self.log(), &text);
            }
            Action::WritePartial => self.write_partial(),
            Action::WriteOld(lines) => self.write_old(*lines),
            Action::RenameAway => self.rename_away(),
            Action::RenameDated => {
                let dated = format!("{}-2024{:04}", self.log(), self.count);
                self.rotate(&dated);
                self.dated = Some(dated);
            }
            Action::RenameChain => {
                self.shift_chain();
                self.rotate(&format!("{}.1", self.log()));
            }
            Action::CopyTruncate => self.copy_truncate(),
            Action::Truncate => self.truncate(),
            Action::Rewrite(lines) => self.rewrite(*lines),
            Action::Delete { read } => self.delete(*read),
            Action::DeleteStopped if !self.running => {
                self.remove(&self.log_path());
                self.lost_unclear = true;
                self.next_generation();
                self.create();
            }
            Action::Prune => self.prune(),
            Action::Pack { zstd, finished } => self.pack(if *zstd { "zst" } else { "gz" }, *finished),
            Action::HardLink => {
                let name = self.beside(if self.matches_all() { "app.log-hard" } else { "hard" });
                fs::hard_link(self.log_path(), self.world.path(&name)).unwrap();
            }
            Action::Copy => self.copy(),
            Action::GrowCopy(lines) if self.matches_all() => {
                if let Some((copy, generation)) = self.copy.clone().filter(|(_, of)| *of != self.generation) {
                    let text = self.lines(generation, *lines);
                    self.world.append(&copy, &text);
                }
            }
            Action::Flip if self.setting.layout == Layout::Linked => self.flip(),
            Action::ReplaceDir { meant } if self.setting.layout == Layout::Nested => self.replace_dir(*meant),
            Action::Scan => self.look_if_running(),
            Action::Checkpoint if self.running => self.world.checkpoint(),
            Action::Read if self.running => {
                self.world.read_all();
                self.finished_some();
            }
            Action::ReadSome if self.running => self.world.read_some(),
            Action::Idle if self.running => self.world.idle_all(),
            Action::Restart => {
                self.stop();
                self.start();
            }
            Action::Stop { read } => {
                if *read {
                    self.look_if_running();
                }
                self.stop();
            }
            Action::Start => self.start(),
            Action::Crash { stay } if self.running => {
                self.all_in_doubt = true;
                self.world.crash();
                self.running = false;
                if !*stay {
                    self.start();
                }
            }
            Action::Reboot | Action::Unborn | Action::Damage(_) => self.change_records(action),
            Action::ClockJump(forwards) => {
                self.set_back |= !forwards;
                if !forwards {
                    // What vanished is forgotten after a day: an archive made in the same tick of the clock tells no more
                    // whether it was read.
                    self.in_doubt.extend(0..=self.generation);
                    self.old = None; // finished more than a day ago: nobody waits for more
                }
                let by = if *forwards { DAY_MS } else { -DAY_MS };
                self.world.known_mut().iter_mut().for_each(|known| known.updated_ms += by);
            }
            Action::Touch(forwards) => {
                let day = Duration::from_millis(DAY_MS.unsigned_abs());
                let now = SystemTime::now();
                let file = File::options().append(true).open(self.log_path()).unwrap();
                file.set_modified(if *forwards { now + day } else { now - day }).unwrap();
            }
            _ => {} // not now, or not in this layout
        }
    }

    /// Before the log goes where no name tells of it. False: nobody saw it, so nothing would tell that it is one of ours.
    fn may_vanish(&mut self) -> bool {
        if self.unseen_away {
            self.start();
            self.look();
        }
        self.look_if_running();
        self.known_bytes().is_some()
    }

    fn rename_away(&mut self) {
        if !self.may_vanish() {
            return;
        }
        let away = self.beside("away");
        self.rotate(&away);
        self.unseen_away = true;
        self.look_if_running();
    }

    fn flip(&mut self) {
        if !self.may_vanish() {
            return;
        }
        self.next_generation();
        let dir = format!("t{}", self.count);
        fs::create_dir_all(self.world.path(&dir)).unwrap();
        self.target = format!("{dir}/{}.log", self.count);
        self.create();
        self.world.link(&self.target, "app.log");
        self.unseen_away = true;
        self.look_if_running();
    }

    fn write_old(&mut self, lines: usize) {
        // Finished under a name that no pattern means: looked at as long as it is known.
        let Some(old) = self.old.take() else { return };
        let place = FileKey::of(&old.file.metadata().unwrap());
        let known = self.world.known_mut().iter().any(|known| known.place == place);
        if !(known || old.fresh || old.meant) {
            return;
        }
        let text = self.lines(old.generation, lines);
        (&old.file).write_all(text.as_bytes()).unwrap();
        self.old = Some(old);
    }

    fn shift_chain(&mut self) {
        let log = self.log();
        for i in (1..=self.count).rev() {
            for packed in ["", ".gz", ".zst"] {
                let (from, to) = (format!("{log}.{i}{packed}"), format!("{log}.{}{packed}", i + 1));
                if self.world.path(&from).exists() {
                    self.world.rename(&from, &to);
                }
            }
        }
    }

    fn copy_truncate(&mut self) {
        if self.equal() && !self.running {
            return; // nothing would tell
        }
        // A copy is known by what was seen of its original.
        if self.running {
            self.look();
        } else if self.setting.layout == Layout::Linked && self.known_bytes() == Some(0) {
            return; // told by its name only, and the link may lead elsewhere by then
        } else if !self.head().is_empty() && self.known_bytes().is_some_and(|known| known <= self.head().len() as u64) {
            return;
        }
        let size = fs::metadata(self.log_path()).unwrap().len();
        if size == 0 {
            return;
        }
        let known = self.known_bytes();
        // A file that vanished is searched for at every start: the copy may be taken for one that came after it.
        if self.may_come_twice(known) || self.lost_unclear {
            self.in_doubt.insert(self.generation);
        }
        self.shift_chain();
        fs::copy(self.log_path(), self.world.path(&format!("{}.1", self.log()))).unwrap();
        File::create(self.log_path()).unwrap();
        self.rewritten.get_or_insert(self.generation);
        self.next_generation();
        // Known wrong otherwise: of what was shipped of it nothing tells it from the next generation (known-issues.md).
        if known.is_some_and(|known| known <= self.head().len() as u64) || self.equal() {
            self.look_if_running();
        }
        self.create();
    }

    /// Too little is known of a copy; or it begins with what all begin with, and is taken for the rest of another one.
    fn may_come_twice(&mut self, known: Option<u64>) -> bool {
        let headed = !self.head().is_empty();
        self.lost_unclear |= headed;
        headed || known.is_none_or(|known| known < PROOF_BYTES)
    }

    /// The archive of a file that nobody saw before it was rotated is known by its name only as long as that is the same.
    fn seen_first_elsewhere(&mut self, name: &str) -> bool {
        let place = FileKey::of(&fs::metadata(self.world.path(name)).unwrap());
        let log = if self.setting.layout == Layout::Linked { "app.log".to_owned() } else { self.log() };
        let log = self.world.path(&log);
        self.world.known_mut().iter().any(|known| known.place == place && known.home != log)
    }

    fn truncate(&mut self) {
        self.start();
        self.look();
        let size = fs::metadata(self.log_path()).unwrap().len();
        let place = FileKey::of(&fs::metadata(self.log_path()).unwrap());
        let key = self.world.live().into_iter().find(|key| self.world.streams[key].opened.place == place);
        let Some(position) = key.and_then(|key| self.world.streams[&key].reader.as_ref().map(|r| r.position())) else {
            return;
        };
        File::create(self.log_path()).unwrap();
        self.partial.clear();
        self.next_generation();
        if size > position {
            self.lost_bytes += size - position;
        }
        self.look();
        self.create();
    }

    fn rewrite(&mut self, lines: usize) {
        if self.equal() {
            return; // nothing would tell
        }
        File::create(self.log_path()).unwrap();
        self.partial.clear();
        self.lost_unclear = true;
        self.rewritten.get_or_insert(self.generation);
        self.next_generation();
        self.in_doubt.insert(self.generation); // some of it may be read before anybody sees that it is another one
        self.create();
        let text = self.lines(self.generation, lines);
        self.world.append(&self.log(), &text);
    }

    fn delete(&mut self, read: bool) {
        if !self.running {
            return;
        }
        match read {
            true => self.look(),
            false => (0..2).for_each(|_| drop(self.world.scan())),
        }
        let metadata = fs::metadata(self.log_path()).unwrap();
        let place = FileKey::of(&metadata);
        // Under its other name it is still there.
        let open =
            metadata.nlink() == 1 && self.world.live().iter().any(|key| self.world.streams[key].opened.place == place);
        if let Some(was) = self.rewritten {
            // Copied, truncated, grown and deleted before it was read: the copy may be read as a generation of its own.
            self.in_doubt.extend(was..self.generation);
        }
        self.remove(&self.log_path());
        let generation = self.generation;
        self.next_generation();
        // What is held back as a copy perhaps is not open after a restart any more.
        if open {
            self.owed.extend(self.lines_of(generation));
        }
        self.create();
        (0..2).for_each(|_| self.look()); // what was truncated and deleted is opened by the first, and read by the second
    }

    /// The rotated file that was written longest ago.
    fn prune(&mut self) {
        if self.running {
            self.look();
            self.world.read_all(); // what the last look opened: deleted and not read it would be lost at a stop
        } else {
            self.lost_unclear = true;
        }
        let log = self.log_path();
        let files = fs::read_dir(log.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
        let rotated = files.filter(|path| *path != log && path.symlink_metadata().unwrap().is_file());
        if let Some(oldest) = rotated.min_by_key(|path| (path.metadata().unwrap().modified().unwrap(), path.clone())) {
            self.remove(&oldest);
        }
    }

    fn pack(&mut self, how: &str, finished: bool) {
        let chain = format!("{}.1", self.log());
        let rotated = [Some(chain), self.dated.clone()].into_iter().flatten();
        let Some(from) = rotated.into_iter().find(|name| self.world.path(name).exists()) else { return };
        let to = format!("{from}.{how}");
        if self.world.path(&to).exists() {
            return;
        }
        if finished {
            self.look_if_running();
        } else if self.running {
            drop(self.world.scan()); // closed as idle, written to and gone between two looks: lost (docs/files.md)
        }
        let linked = fs::metadata(self.world.path(&from)).unwrap().nlink() > 1;
        let mut known = self.known_bytes_of(&from, true);
        if self.running && known.is_none_or(|known| known == 0) {
            self.look();
            known = self.known_bytes_of(&from, true);
        }
        let size = fs::metadata(self.world.path(&from)).unwrap().len();
        let regrown = self.known_bytes_of(&from, false).is_none() && known.is_some_and(|known| known < size);
        let packed_before = fs::read_dir(self.log_path().parent().unwrap())
            .unwrap()
            .any(|entry| entry.unwrap().path().extension().is_some_and(|ext| ext == "gz" || ext == "zst"));
        let only_head = known.is_some_and(|known| known <= self.head().len() as u64);
        if packed_before && (!self.running || only_head) && !self.head().is_empty() {
            return; // two archives that begin alike, and nothing else to tell them by (known-issues.md)
        }
        if !self.running && !self.head().is_empty() && known.is_some_and(|known| known <= self.head().len() as u64) {
            return; // only the head is known, which all have (known-issues.md)
        }
        let proven = known.is_some_and(|known| known >= PROOF_BYTES) && !self.equal() && !self.set_back;
        if regrown && !self.running && !proven {
            return; // finished, and written again: too little is known of it to find it (known-issues.md), or too long ago
        }
        if linked && self.equal() {
            return; // nothing would tell the archive's lines from those that are still there
        }
        let metadata = fs::metadata(self.world.path(&from)).unwrap();
        if known.is_none_or(|known| known == 0) && metadata.modified().unwrap() < metadata.created().unwrap() {
            return; // nobody saw it, and it is as old as those that were there before the agent
        }
        if known.is_none() && self.matches_all() && self.copy.is_some() {
            return; // held back because it begins like the copy (known-issues.md)
        }
        // Nobody saw it. Killed, or where more than its archive tells, it may be taken for another's (known-issues.md).
        if known.is_none_or(|known| known == 0) && (!self.head().is_empty() || self.equal()) {
            return;
        }
        if linked || self.seen_first_elsewhere(&from) || self.may_come_twice(known) {
            let text = fs::read_to_string(self.world.path(&from)).unwrap();
            self.in_doubt.extend(text.lines().filter_map(|line| self.written.get(line)));
            // Read as a source of its own: its last line without an end is counted when it goes.
            self.lost_unclear |= self.matches_all() && self.setting.compressed;
        }
        self.old = None; // who compresses a file has told its writer
        self.world.pack(&from, &to);
        self.remove(&self.world.path(&from));
    }

    fn copy(&mut self) {
        // A line that was begun goes on in one of the two only.
        if !self.partial.is_empty() {
            return;
        }
        let name = self.beside(if self.matches_all() { "acopy" } else { "unread" });
        fs::copy(self.log_path(), self.world.path(&name)).unwrap();
        if self.matches_all() || !self.head().is_empty() {
            self.in_doubt.insert(self.generation);
        }
        self.lost_unclear |= !self.head().is_empty();
        self.copy = Some((name, self.generation));
    }

    fn replace_dir(&mut self, meant: bool) {
        self.look_if_running();
        let alone = fs::read_dir(self.world.path("d")).unwrap().count() == 1;
        let found = self.running || (alone && meant);
        if !found {
            return; // where nobody looks, nobody finds it
        }
        self.count += 1;
        let to = format!("{}-{}", if meant { "d" } else { "old" }, self.count);
        self.world.rename("d", &to);
        fs::create_dir(self.world.path("d")).unwrap();
        self.next_generation();
        self.dated = None;
        self.copy = None;
        self.create();
        self.look_if_running();
    }

    /// The agent starts again, and what it knew is not quite what it sees.
    fn change_records(&mut self, action: &Action) {
        if !self.running {
            return; // what happened while it was stopped has to be told by what is changed here
        }
        self.look();
        self.stop();
        for known in self.world.known_mut() {
            let evidence = &mut known.evidence;
            match action {
                Action::Reboot => known.place.device += 1,
                Action::Unborn => known.place.born_ns = None,
                Action::Damage(0..50) => evidence.window_hash ^= 1,
                Action::Damage(50..100) => evidence.rest_hash ^= 1,
                Action::Damage(100..150) => evidence.blocks += 1,
                Action::Damage(150..200) => evidence.prefix_len = u32::MAX,
                Action::Damage(200..220) => evidence.chain_from = u64::MAX,
                _ => evidence.prefix_hash ^= 1,
            }
        }
        if !matches!(action, Action::Reboot) {
            self.all_in_doubt = true;
            self.lost_unclear = true;
            self.old = None; // a file of which nothing true is known, and that no pattern means, is not found again
        }
        self.start();
        // What was damaged is read with the next line.
        let text = self.lines(self.generation, 1);
        self.world.append(&self.log(), &text);
        self.look();
    }
}
