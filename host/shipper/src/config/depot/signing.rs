//! Who made a release: ed25519 over its digest, name and version. Pure.
//!
//! ```text
//! signed        tailmill-module-v1 \n NAME \n VERSION \n sha256:HEX \n
//! public key    ed25519:BASE64             what agents trust
//! secret key    ed25519-secret:BASE64      in a file that only its owner reads
//! ```
//! Names and versions hold no newline, so no two releases are signed by the same text.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use tailmill_engine::Digest;

use super::Release;

const PUBLIC: &str = "ed25519:";
const SECRET: &str = "ed25519-secret:";

/// A key that agents trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// The other half. Never shown.
pub(crate) struct SecretKey {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

/// By which key, and what it said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signature {
    /// As agents write it.
    pub(crate) key: String,
    /// Base64.
    pub(crate) signature: String,
}

impl PublicKey {
    /// What `trusted_keys` holds.
    pub fn parse(text: &str) -> Result<PublicKey, String> {
        let no_key = "is no public key: `tailmill key generate` prints ed25519:… to write here";
        decoded(text, PUBLIC).map(PublicKey).ok_or_else(|| no_key.to_owned())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", BASE64.encode(self.0))
    }
}

impl SecretKey {
    /// Of 32 bytes that nobody can guess.
    pub(crate) fn of(random: &[u8; 32]) -> Result<SecretKey, String> {
        let pair = Ed25519KeyPair::from_seed_unchecked(random).map_err(|error| format!("is no secret key: {error}"))?;
        Ok(SecretKey { seed: *random, pair })
    }

    /// What a key file holds.
    pub(crate) fn parse(text: &str) -> Result<SecretKey, String> {
        let bytes = decoded(text.trim(), SECRET).ok_or("is no secret key: `tailmill key generate` writes one")?;
        SecretKey::of(&bytes)
    }

    /// For the key file.
    pub(crate) fn reveal(&self) -> String {
        format!("{SECRET}{}\n", BASE64.encode(self.seed))
    }

    /// What agents are to trust.
    pub(crate) fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        // An ed25519 key has 32 bytes.
        key.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(key)
    }

    /// Signs a release.
    pub(crate) fn sign(&self, name: &str, version: &str, digest: &Digest) -> Signature {
        let signature = self.pair.sign(signed(name, version, digest).as_bytes());
        Signature { key: self.public().to_string(), signature: BASE64.encode(signature.as_ref()) }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Whether one of these keys signed this very release; else why it is refused. No keys: everything is taken.
pub(super) fn verify(release: &Release, trusted: &[PublicKey]) -> Result<(), String> {
    if trusted.is_empty() {
        return Ok(());
    }
    let Some(signature) = &release.signature else {
        return Err("it is not signed, and modules.trusted_keys wants it signed".to_owned());
    };
    let Some(key) = trusted.iter().find(|key| key.to_string() == signature.key) else {
        return Err(format!("it is signed by {}, which modules.trusted_keys does not have", signature.key));
    };
    let wrong = || "its signature is wrong: it was made for another name, version or content".to_owned();
    let made = BASE64.decode(&signature.signature).map_err(|_| wrong())?;
    let text = signed(&release.name, &release.version, &release.digest);
    UnparsedPublicKey::new(&ED25519, key.0).verify(text.as_bytes(), &made).map_err(|_| wrong())
}

impl Signature {
    /// Whether one of these keys made it; without any, whether the key that it names made it. What is not signed is good only
    /// where nobody has to have signed it.
    pub(crate) fn check(release: &Release, trusted: &[PublicKey]) -> Result<(), String> {
        match &release.signature {
            Some(signature) if trusted.is_empty() => {
                verify(release, &[PublicKey::parse(&signature.key).map_err(|why| format!("its key {why}"))?])
            }
            _ => verify(release, trusted),
        }
    }
}

fn signed(name: &str, version: &str, digest: &Digest) -> String {
    format!("tailmill-module-v1\n{name}\n{version}\n{digest}\n")
}

fn decoded(text: &str, prefix: &str) -> Option<[u8; 32]> {
    BASE64.decode(text.strip_prefix(prefix)?).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::super::release::sample;
    use super::*;

    fn signed_by(key: &SecretKey, name: &str, version: &str, content: &[u8]) -> Release {
        let mut release = sample(name, version, content);
        release.signature = Some(key.sign(name, version, &release.digest));
        release
    }

    #[test]
    fn only_what_a_trusted_key_signed_under_this_name_and_version_is_taken() {
        let (own, other) = (SecretKey::of(&[1; 32]).unwrap(), SecretKey::of(&[2; 32]).unwrap());
        let good = signed_by(&own, "grep", "1.0", b"wasm");
        let check = |release: &Release, trusted: &[&SecretKey], expected: Result<(), &str>| {
            let trusted: Vec<PublicKey> = trusted.iter().map(|key| key.public()).collect();
            match (verify(release, &trusted), expected) {
                (Ok(()), Ok(())) => {}
                (Err(said), Err(expected)) => assert!(said.contains(expected), "{said}"),
                (said, expected) => panic!("{said:?} instead of {expected:?}"),
            }
        };
        check(&good, &[&own], Ok(()));
        check(&good, &[&other, &own], Ok(()));
        check(&good, &[], Ok(()));
        check(&good, &[&other], Err("which modules.trusted_keys does not have"));
        check(&sample("grep", "1.0", b"wasm"), &[&own], Err("not signed"));
        check(&Release { name: "json".to_owned(), ..good.clone() }, &[&own], Err("another name"));
        check(&Release { version: "1.1".to_owned(), ..good.clone() }, &[&own], Err("another name"));
        check(&Release { digest: Digest::of(b"evil"), ..good.clone() }, &[&own], Err("another name"));
        let mut lying = signed_by(&other, "grep", "1.0", b"wasm");
        lying.signature.as_mut().unwrap().key = own.public().to_string();
        check(&lying, &[&own], Err("its signature is wrong"));
        lying.signature.as_mut().unwrap().signature = "AAAA".to_owned();
        check(&lying, &[&own], Err("its signature is wrong"));
        assert_eq!(Signature::check(&good, &[]), Ok(()));
        lying.signature.as_mut().unwrap().signature = good.signature.as_ref().unwrap().signature.clone();
        assert!(Signature::check(&lying, &[]).is_ok(), "it is the same text, signed by the same key");
        lying.version = "2".to_owned();
        assert!(Signature::check(&lying, &[]).is_err());
    }

    #[test]
    fn keys_are_written_and_read_and_secrets_are_not_shown() {
        let key = SecretKey::of(&[7; 32]).unwrap();
        assert_eq!(SecretKey::parse(&key.reveal()).unwrap().public(), key.public());
        assert_eq!(PublicKey::parse(&key.public().to_string()), Ok(key.public()));
        assert_eq!(format!("{key:?}"), "(hidden)");
        for bad in ["", "ed25519:", "ed25519:AAAA", &key.reveal()] {
            assert!(PublicKey::parse(bad).is_err(), "{bad}");
        }
        assert!(SecretKey::parse(&key.public().to_string()).is_err());
    }
}
