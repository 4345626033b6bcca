//! A program that writes its log and rotates it. One writer: its numbers go on over all of its files.

use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::lines::{self, Style};

/// A writer and its current file.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    style: Style,
    writer: u32,
    next: u64,
    bytes: u64,
    rotations: u32,
}

impl LogFile {
    /// A new, empty file.
    pub fn create(path: impl Into<PathBuf>, style: Style, writer: u32) -> LogFile {
        let path = path.into();
        std::fs::create_dir_all(path.parent().expect("a file lies in a directory")).expect("a directory can be made");
        let file = open(&path);
        LogFile { path, file, style, writer, next: 0, bytes: 0, rotations: 0 }
    }

    /// Appends so many lines in pieces that, like a real program's buffers, do not end with a line.
    pub fn write(&mut self, count: u64) -> &mut Self {
        let mut text = Vec::new();
        for number in self.next..self.next + count {
            text.extend(lines::line(self.style, self.writer, number));
            text.push(b'\n');
        }
        self.next += count;
        for piece in text.chunks(60_001) {
            self.append(piece);
        }
        self
    }

    /// Appends bytes that are no lines of the oracle's.
    pub fn append(&mut self, bytes: &[u8]) -> &mut Self {
        self.file.write_all(bytes).expect("a log can be written");
        self.bytes += bytes.len() as u64;
        self
    }

    /// As logrotate does with `create`: the file becomes `PATH.1` (`.2`, … the next times), a new one takes its place.
    pub fn rotate(&mut self) -> PathBuf {
        self.rotations += 1;
        let to = PathBuf::from(format!("{}.{}", self.path.display(), self.rotations));
        std::fs::rename(&self.path, &to).expect("a log can be renamed");
        self.file = open(&self.path);
        to
    }

    /// As a program does that was told that its log was rotated: from now on into the file that has its name.
    pub fn reopen(&mut self) {
        self.file = open(&self.path);
    }

    /// As a program does that has its log open under another name: from now on into that file.
    pub fn go_on_in(&mut self, path: &Path) {
        self.file = open(path);
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The writer's number.
    pub fn writer(&self) -> u32 {
        self.writer
    }

    /// What its lines look like.
    pub fn style(&self) -> Style {
        self.style
    }

    /// The numbers of the lines written so far.
    pub fn numbers(&self) -> Range<u64> {
        0..self.next
    }

    /// Bytes written so far, over all of its files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn open(path: &Path) -> File {
    File::options().create(true).append(true).open(path).expect("a log can be opened")
}
