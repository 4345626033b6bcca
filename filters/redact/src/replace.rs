//! What is written in place of a secret.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use tailmill_filter::LineWriter;

use crate::Kind;

/// A template such as `[{kind}:{hash}]`.
pub(crate) struct Replacer {
    parts: Vec<Part>,
    /// Keyed, waiting for a value.
    mac: Option<Hmac<Sha256>>,
}

#[derive(Debug)]
enum Part {
    Text(Vec<u8>),
    Kind,
    Hash,
}

/// 64 bits: two of a million different values look alike with a chance of 1 in 37 million.
const HASH_BYTES: usize = 8;

/// A key below this can be guessed by trying.
const KEY_BYTES_MIN: usize = 16;

impl Replacer {
    pub(crate) fn new(template: Option<&str>, key: Option<&str>) -> Result<Replacer, String> {
        let usual = if key.is_some() { "[{kind}:{hash}]" } else { "[{kind}]" };
        let parts = parts(template.unwrap_or(usual));
        let hashes = parts.iter().any(|part| matches!(part, Part::Hash));
        match key {
            None if hashes => return Err("`replacement`: {hash} needs a `hash_key`".into()),
            Some(_) if !hashes => return Err("`hash_key`: means nothing unless `replacement` has {hash} in it".into()),
            Some(key) if key.len() < KEY_BYTES_MIN => {
                return Err(format!(
                    "`hash_key`: must have at least {KEY_BYTES_MIN} bytes: a shorter one can be guessed"
                ));
            }
            _ => {}
        }
        // HMAC takes a key of any length.
        let mac = key.and_then(|key| Hmac::<Sha256>::new_from_slice(key.as_bytes()).ok());
        Ok(Replacer { parts, mac })
    }

    pub(crate) fn write(&self, kind: Kind, name: &str, value: &[u8], out: &mut LineWriter<'_>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend(text),
                Part::Kind => out.extend(name.as_bytes()),
                Part::Hash => self.write_hash(kind, value, out),
            }
        }
    }

    fn write_hash(&self, kind: Kind, value: &[u8], out: &mut LineWriter<'_>) {
        let Some(mac) = &self.mac else { return };
        let mut mac = mac.clone();
        // What differs only in its spelling stays linkable.
        match kind {
            Kind::Email => mac.update(&value.to_ascii_lowercase()),
            Kind::Card => mac.update(&value.iter().copied().filter(u8::is_ascii_digit).collect::<Vec<u8>>()),
            Kind::Token | Kind::Custom(_) => mac.update(value),
        }
        for byte in &mac.finalize().into_bytes()[..HASH_BYTES] {
            out.extend(&[hex(byte >> 4), hex(byte & 15)]);
        }
    }
}

fn hex(digit: u8) -> u8 {
    b"0123456789abcdef"[usize::from(digit)]
}

fn parts(template: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = template;
    while !rest.is_empty() {
        let places = [("{kind}", Part::Kind), ("{hash}", Part::Hash)];
        let next = places.into_iter().filter_map(|(name, part)| Some((rest.find(name)?, name, part)));
        let Some((at, name, part)) = next.min_by_key(|(at, ..)| *at) else {
            parts.push(Part::Text(rest.as_bytes().to_vec()));
            break;
        };
        parts.extend((at > 0).then(|| Part::Text(rest.as_bytes()[..at].to_vec())));
        parts.push(part);
        rest = &rest[at + name.len()..];
    }
    parts
}
