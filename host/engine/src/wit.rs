//! The filter contract as Rust types: what is lowered into a guest and what is lifted out of it, unchecked.
//!
//! Parameters are borrowed, so a batch is copied once, into the guest's memory. Answers are plain byte lists, which are
//! lifted by one copy each; [`crate::check`] turns them into the host's own types. Nothing of this leaves the crate.

use wasmtime::component::{ComponentType, Lift, Lower};

/// The contract's text, for wrapping core modules.
pub(crate) const TEXT: &str = include_str!("../../../wit/filter.wit");

/// Name of an interface of the contract, without the version.
pub(crate) const PACKAGE: &str = "tailmill:filter/";
/// The version of the contract that this engine was built with.
pub(crate) const VERSION: &str = "1.1.0";

/// Functions of the interfaces that a filter may import.
pub(crate) const HOST_FUNCTIONS: [&str; 4] = ["log", "print", "count", "now"];
pub(crate) const ORIGIN_FUNCTIONS: [&str; 8] =
    ["stream-id", "node", "path", "first-offset", "topics", "inode", "generation", "first-line"];

/// The text of [`TEXT`] under the name of another version.
pub(crate) fn text_as(version: &str) -> String {
    TEXT.replacen(&format!("package tailmill:filter@{VERSION};"), &format!("package tailmill:filter@{version};"), 1)
}

/// `batch` of `tailmill:filter/batch@1.2.3`; `None` for anything that is not of version 1 of the contract.
pub(crate) fn interface_of(name: &str) -> Option<&str> {
    let (interface, version) = name.strip_prefix(PACKAGE)?.split_once('@')?;
    let (major, rest) = version.split_once('.')?;
    (major == "1" && !rest.contains(['-', '+'])).then_some(interface)
}

/// A version, to be compared.
pub(crate) fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct LinesIn<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) starts: &'a [u8],
    pub(crate) ends: &'a [u8],
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct LinesOut {
    pub(crate) data: Vec<u8>,
    pub(crate) starts: Vec<u8>,
    pub(crate) ends: Vec<u8>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Column {
    pub(crate) present: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) ends: Vec<u8>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) values: Column,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Output {
    pub(crate) lines: LinesOut,
    pub(crate) source: Vec<u8>,
    pub(crate) keys: Option<Column>,
    pub(crate) topics: Vec<u8>,
    #[component(name = "timestamps-ms")]
    pub(crate) timestamps_ms: Vec<u8>,
    pub(crate) headers: Vec<Header>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
#[allow(clippy::large_enum_variant)] // lives for a moment, and wasmtime lifts into no boxes
pub(crate) enum Outcome {
    #[component(name = "keep-all")]
    KeepAll,
    #[component(name = "drop-all")]
    DropAll,
    #[component(name = "keep")]
    Keep(Vec<u8>),
    #[component(name = "emit")]
    Emit(Output),
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    #[component(name = "oldest-held")]
    pub(crate) oldest_held: Option<u64>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Released {
    pub(crate) output: Option<Output>,
    #[component(name = "oldest-held")]
    pub(crate) oldest_held: Option<u64>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct GuestFault {
    pub(crate) line: Option<u64>,
    pub(crate) message: Vec<u8>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Traits {
    pub(crate) stateless: bool,
    pub(crate) needles: Vec<Vec<u8>>,
    #[component(name = "keep-skipped")]
    pub(crate) keep_skipped: bool,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Verdict {
    #[component(name = "keep")]
    Keep,
    #[component(name = "drop")]
    Drop,
    #[component(name = "replace")]
    Replace(Vec<u8>),
}

/// A function of the contract: its parameters and its result, as wasmtime wants them. Kept for a lifetime of `'static`, it can
/// be called with parameters that live shorter.
pub(crate) mod func {
    use super::*;
    use wasmtime::component::TypedFunc;

    pub(crate) type StartBatch<'a> = TypedFunc<(&'a [u8],), (Result<Traits, Vec<u8>>,)>;
    pub(crate) type RunBatch<'a> = TypedFunc<(u64, LinesIn<'a>), (Result<Answer, GuestFault>,)>;
    pub(crate) type StartLine<'a> = TypedFunc<(&'a [u8],), (Result<(), Vec<u8>>,)>;
    pub(crate) type RunLine<'a> = TypedFunc<(&'a [u8],), (Result<Verdict, Vec<u8>>,)>;
    pub(crate) type EveryMs = TypedFunc<(), (u32,)>;
    pub(crate) type Release = TypedFunc<(), (Result<Released, GuestFault>,)>;
    pub(crate) type Save = TypedFunc<(), (Result<Vec<u8>, Vec<u8>>,)>;
    pub(crate) type Load<'a> = TypedFunc<(&'a [u8],), (Result<(), Vec<u8>>,)>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_minor_version_of_the_contract_is_known_and_no_other_major_one() {
        let known = |name| interface_of(name);
        assert_eq!(known("tailmill:filter/batch@1.0.0"), Some("batch"));
        assert_eq!(known("tailmill:filter/batch@1.12.3"), Some("batch"));
        assert_eq!(known("tailmill:filter/batch@2.0.0"), None);
        assert_eq!(known("tailmill:filter/batch@0.9.0"), None);
        assert_eq!(known("tailmill:filter/batch@1.0.0-rc.1"), None);
        assert_eq!(known("tailmill:filter/batch"), None);
        assert_eq!(known("other:filter/batch@1.0.0"), None);
    }

    #[test]
    fn the_text_has_the_version_that_is_served() {
        assert!(TEXT.contains(&format!("package tailmill:filter@{VERSION};")));
        for name in HOST_FUNCTIONS.iter().chain(&ORIGIN_FUNCTIONS) {
            assert!(TEXT.contains(&format!(" {name}: func")), "{name}");
        }
    }
}
