//! Which streams lie, or belong, at a path.
//!
//! One index for both: nearly every stream lies where it belongs, and nearly every path is of one stream. Whoever asks
//! tells the two apart by the stream itself. Thousands of idle files are kept in here: it allocates nothing for each.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::identity::FileId;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PathsIndex {
    ids: HashMap<Arc<Path>, Ids>,
}

#[derive(Debug)]
enum Ids {
    One(FileId),
    /// Invariant: at least two.
    More(Vec<FileId>),
}

impl PathsIndex {
    /// A stream lies or belongs here; once is enough.
    pub(super) fn insert(&mut self, path: &Arc<Path>, id: FileId) {
        let Some(ids) = self.ids.get_mut(path) else {
            self.ids.insert(path.clone(), Ids::One(id));
            return;
        };
        match ids {
            Ids::One(one) if *one == id => {}
            Ids::One(one) => *ids = Ids::More(vec![*one, id]),
            Ids::More(more) if more.contains(&id) => {}
            Ids::More(more) => more.push(id),
        }
    }

    /// It does not any more.
    pub(super) fn remove(&mut self, path: &Path, id: FileId) {
        match self.ids.get_mut(path) {
            Some(Ids::One(one)) if *one == id => drop(self.ids.remove(path)),
            Some(ids @ Ids::More(_)) => {
                if let Ids::More(more) = ids {
                    more.retain(|other| *other != id);
                    if let [last] = more[..] {
                        *ids = Ids::One(last);
                    }
                }
            }
            _ => {}
        }
    }

    /// Those that lie or belong here.
    pub(super) fn at(&self, path: &Path) -> &[FileId] {
        match self.ids.get(path) {
            None => &[],
            Some(Ids::One(one)) => std::slice::from_ref(one),
            Some(Ids::More(more)) => more,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_knows_its_streams_until_the_last_one_is_taken_out() {
        let mut index = PathsIndex::default();
        let (path, other): (Arc<Path>, Arc<Path>) = (Arc::from(Path::new("/a")), Arc::from(Path::new("/b")));
        for id in [1, 2, 2, 3, 1] {
            index.insert(&path, FileId(id));
        }
        index.insert(&other, FileId(9));
        for (taken, left) in [(7, &[1, 2, 3][..]), (2, &[1, 3]), (1, &[3]), (1, &[3]), (3, &[])] {
            index.remove(&path, FileId(taken));
            let expected: Vec<FileId> = left.iter().map(|id| FileId(*id)).collect();
            assert_eq!(index.at(&path), expected, "after {taken}");
        }
        assert_eq!(index.at(&other), [FileId(9)]);
        assert_eq!(index.ids.len(), 1);
    }
}
