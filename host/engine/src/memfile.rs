//! Files in memory, to hand bytes to a child and take its answer without pipes that need a thread each, and without a disk
//! that may be full.

use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

/// A file in memory that holds `parts`, at its start.
pub(crate) fn holding(parts: &[&[u8]]) -> std::io::Result<File> {
    let mut file = File::from(memfd_create("tailmill", MemfdFlags::CLOEXEC)?);
    for part in parts {
        file.write_all(part)?;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// All that was written to `file` by whomever, up to `bytes_max`.
pub(crate) fn contents(file: &mut File, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::with_capacity(file.metadata()?.len().min(bytes_max) as usize);
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
