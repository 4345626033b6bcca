//! The stream's descriptor: closed while its file is idle, opened again by discovery, let go when a deleted file takes too
//! much of the disk.

use super::command::ShardReport;
use super::services::Services;
use super::stream::{Life, Stream};
use std::fs::File;

impl Stream {
    /// At the end of a file that stays: closes it when it was quiet for long enough, else arranges for a look when it may
    /// have been.
    pub(super) fn close_if_idle(&mut self, services: &mut Services) {
        let Some(close_idle) = self.armed.entry.close_idle else { return };
        let since = *self.idle_since.get_or_insert(services.now);
        let due = since + close_idle;
        if due <= services.now && self.may_close() {
            let bytes_read = self.reader.close();
            self.close_at = None;
            services.says.push(ShardReport::Idle { key: self.key.clone(), bytes_read });
        } else if self.close_at.is_none_or(|at| at <= services.now) {
            // One timer at a time: most rings find that the file was written meanwhile.
            let at = due.max(services.now + close_idle / 4);
            self.close_at = Some(at);
            services.wake_at(self.ix, at);
        }
    }

    /// Nothing of the file may have to be read again.
    fn may_close(&self) -> bool {
        self.partial_bytes == 0 && self.pending().is_zero() && !self.goes_first() && self.outstanding == 0
    }

    /// Discovery opened the file again: there is more, or it is leaving.
    pub(super) fn reopened(&mut self, file: File) {
        self.idle_since = None;
        self.at_end = false;
        if self.reader.is_open() || matches!(self.life, Life::GivingUp { .. }) {
            return;
        }
        if let Err(error) = self.reader.reopen(file) {
            tracing::info!(entry = %self.entry(), file = %self.path.display(), "opened again, it is another file: {error}");
            self.life = Life::Truncated;
        }
    }

    /// A deleted file takes too much of the disk: closed now, whatever is under way. What was read goes on its way.
    pub(super) fn give_up(&mut self) {
        let size = self.size();
        let unread = size.saturating_sub(self.reader.position());
        tracing::error!(
            entry = %self.entry(), file = %self.path.display(), unread,
            "given up: it was deleted before it was read to its end, and deleted files take more than agent.pinned_bytes_max"
        );
        self.reader.close();
        self.life = Life::GivingUp { size };
    }

    /// Says what a deleted file takes as long as it is not read to its end, and once more when it is.
    pub(super) fn say_pinned(&mut self) -> Option<ShardReport> {
        let pinned = self.gone && self.life == Life::Leaving && !self.at_end && self.reader.is_open();
        if !pinned && !self.pinned {
            return None;
        }
        self.pinned = pinned;
        let size = self.size();
        let bytes = self.reader.disk_bytes().unwrap_or(size);
        let unread = if pinned { size.saturating_sub(self.reader.position()) } else { 0 };
        Some(ShardReport::Pinned { key: self.key.clone(), bytes, unread })
    }
}

#[cfg(test)]
mod tests {
    use super::super::opening::sample;
    use super::*;
    use std::sync::Arc;
    use tailmill_tail::{Evidence, Reader};

    #[test]
    fn a_deleted_file_counts_with_the_blocks_that_it_takes_and_not_with_its_size() {
        const SIZE: u64 = 64 << 20;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let file = File::create(&path).expect("a file");
        file.set_len(SIZE).expect("a hole");
        let reader = Reader::new(File::open(&path).expect("a file"), 0, Evidence::default(), Arc::default());
        let mut stream = sample(1, 1, &path, reader.expect("a reader"));
        assert!(stream.say_pinned().is_none(), "it is there");
        (stream.gone, stream.life) = (true, Life::Leaving);
        let Some(ShardReport::Pinned { bytes, unread, .. }) = stream.say_pinned() else { panic!("no report") };
        assert!(bytes < 1 << 20, "{bytes} bytes");
        assert_eq!(unread, SIZE);
        stream.at_end = true;
        let read = stream.say_pinned();
        assert!(matches!(read, Some(ShardReport::Pinned { unread: 0, .. })), "once more when it was read");
        assert!(stream.say_pinned().is_none());
    }
}
