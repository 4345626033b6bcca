//! What a compressed file holds.
//!
//! In: an open file. Out: whether it is gzip or zstd (by its first bytes, whatever its name), and its content from the
//! beginning as a stream of bytes. It reads with its own position, so the same descriptor serves others meanwhile, and
//! it never holds more than one block in memory. Several members behind each other are one content.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::allow::OpenProblem;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// The content of a compressed file.
pub type Content = Box<dyn Read + Send>;

impl Packing {
    /// Whether a file that begins with these few bytes and has no more yet may become a compressed one.
    pub(crate) fn may_begin_with(bytes: &[u8]) -> bool {
        [&[0x1f, 0x8b, 8][..], &[0x28, 0xb5, 0x2f, 0xfd]].iter().any(|magic| magic.starts_with(bytes))
    }

    /// By the first bytes; None: not compressed, or still too short to tell.
    pub fn of(file: &File) -> io::Result<Option<Packing>> {
        let mut magic = [0_u8; 4];
        let mut got = 0;
        while got < magic.len() {
            match file.read_at(&mut magic[got..], got as u64) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(match magic {
            [0x1f, 0x8b, 8, _] if got >= 3 => Some(Packing::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd] => Some(Packing::Zstd),
            _ => None,
        })
    }

    /// What keeps a new file from being read: it is compressed, and its entry did not say that it means such files. Its
    /// bytes would be no lines.
    pub(crate) fn refusal(file: &File, wanted: bool) -> io::Result<Option<OpenProblem>> {
        Ok(if wanted { None } else { Packing::of(file)?.map(|_| OpenProblem::Compressed) })
    }

    /// Whether a name says so. Only the content is the truth; this tells which files are worth opening.
    pub fn is_named(path: &Path) -> bool {
        path.extension().is_some_and(|ext| ["gz", "gzip", "zst", "zstd"].iter().any(|known| ext == *known))
    }

    /// The content, from its beginning. A file that is cut off in the middle of a block gives what was before it, then
    /// an error of kind `UnexpectedEof`.
    pub fn unpack(self, file: File) -> io::Result<Content> {
        let bytes = io::BufReader::with_capacity(64 * 1024, At { file, at: 0 });
        Ok(match self {
            Packing::Gzip => Box::new(MultiGzDecoder::new(bytes)),
            Packing::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(bytes)?),
        })
    }
}

/// A file read from a position of its own.
struct At {
    file: File,
    at: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read_at(buffer, self.at)?;
        self.at += bytes as u64;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn content(bytes: &[u8]) -> (Vec<u8>, Option<io::ErrorKind>) {
        let file = file(bytes);
        let packing = Packing::of(&file).unwrap().unwrap();
        let mut out = Vec::new();
        let outcome = packing.unpack(file).unwrap().read_to_end(&mut out);
        (out, outcome.err().map(|error| error.kind()))
    }

    #[test]
    fn gzip_and_zstd_are_told_by_their_first_bytes_and_unpacked() {
        let text = b"a line\n".repeat(50_000);
        assert_eq!(content(&gzip(&text)), (text.clone(), None));
        assert_eq!(content(&zstd::encode_all(&text[..], 1).unwrap()), (text.clone(), None));
        let two = [gzip(b"one\n"), gzip(b"two\n")].concat();
        assert_eq!(content(&two), (b"one\ntwo\n".to_vec(), None));
        for plain in [&b""[..], b"\x1f", b"\x1f\x8b", b"plain text\n", b"\x28\xb5\x2f"] {
            assert_eq!(Packing::of(&file(plain)).unwrap(), None, "{plain:?}");
        }
    }

    #[test]
    fn a_file_that_is_cut_off_gives_what_came_before_and_says_so() {
        let text: Vec<u8> =
            (0..100_000_u32).flat_map(|i| format!("{:x}\n", i.wrapping_mul(2_654_435_761)).into_bytes()).collect();
        for packed in [gzip(&text), zstd::encode_all(&text[..], 1).unwrap()] {
            let (out, error) = content(&packed[..packed.len() / 2]);
            assert!(!out.is_empty() && text.starts_with(&out), "{} bytes", out.len());
            assert_eq!(error, Some(io::ErrorKind::UnexpectedEof));
        }
    }
}
