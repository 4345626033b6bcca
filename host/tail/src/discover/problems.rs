//! Paths that should be read and cannot: each is reported once, and once more when it is over.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::FileEvent;
use super::entry::Entry;
use super::walk::Look;
use crate::allow::OpenProblem;

impl Entry {
    pub(super) fn note_problems(
        &mut self,
        looks: &HashMap<PathBuf, Look>,
        complete: bool,
        events: &mut Vec<FileEvent>,
    ) {
        let is_over = |path: &PathBuf| match looks.get(path) {
            Some(Look::Nothing) => true,
            // Not opened again, so nothing else will tell that it could be.
            Some(Look::File(shown)) => self.has_place(&shown.place) || self.known.has_nothing_new(shown),
            Some(Look::Bad(_)) => false,
            None => complete,
        };
        let mut over: Vec<_> = self.problems.keys().filter(|path| is_over(path)).cloned().collect();
        over.sort();
        over.iter().for_each(|path| self.heal(path, events));
        let mut bad: Vec<_> = looks.iter().filter(|(_, look)| matches!(look, Look::Bad(_))).collect();
        bad.sort_by_key(|(path, _)| *path);
        for (path, look) in bad {
            let Look::Bad(problem) = look else { continue };
            if matches!(problem, OpenProblem::Directory) && !self.spec.patterns.is_literal(path) {
                continue;
            }
            self.trouble(path, problem.again(), events);
        }
    }

    /// Reports a problem unless it is the one that was reported for this path.
    pub(super) fn trouble(&mut self, path: &Path, problem: OpenProblem, events: &mut Vec<FileEvent>) {
        if self.problems.get(path).is_some_and(|before| before.same_kind(&problem)) {
            return;
        }
        self.problems.insert(path.to_owned(), problem.again());
        events.push(FileEvent::Problem { entry: self.spec.entry.clone(), path: path.to_owned(), problem });
    }

    pub(super) fn heal(&mut self, path: &Path, events: &mut Vec<FileEvent>) {
        if self.problems.remove(path).is_some() {
            events.push(FileEvent::Healed { entry: self.spec.entry.clone(), path: path.to_owned() });
        }
    }
}
