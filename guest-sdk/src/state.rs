//! Saved state as JSON, and how to keep bytes in it. `#[filter(state = FIELD)]` uses these.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value as saved state.
pub fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    serde_json::to_vec(value).map_err(|error| format!("while saving the state: {error}"))
}

/// A value out of saved state.
pub fn from_bytes<T: DeserializeOwned>(saved: &[u8]) -> Result<T, String> {
    serde_json::from_slice(saved).map_err(|error| format!("while loading the state: {error}"))
}

/// For `#[serde(with = "tailmill_filter::state::bytes")]` on a `Vec<u8>`: one character a byte instead of a list of
/// numbers, so that held lines stay within a state's 512 KiB.
pub mod bytes {
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes bytes as a string of characters below U+0100.
    pub fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&bytes.iter().map(|byte| char::from(*byte)).collect::<String>())
    }

    /// Reads what [`serialize`] wrote.
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(input)?;
        let bytes = text.chars().map(|character| u8::try_from(u32::from(character)));
        bytes.collect::<Result<_, _>>().map_err(|_| de::Error::custom("a character that is no byte"))
    }
}

#[cfg(test)]
mod tests {
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Pending {
        #[serde(with = "super::bytes")]
        line: Vec<u8>,
    }

    #[test]
    fn every_byte_comes_back() {
        let pending = Pending { line: (0..=255).collect() };
        let saved = super::to_bytes(&pending).expect("save");
        assert_eq!(super::from_bytes::<Pending>(&saved), Ok(pending));
        assert!(super::from_bytes::<Pending>(r#"{"line": "Ā"}"#.as_bytes()).is_err());
    }
}
