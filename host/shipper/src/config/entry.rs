//! One entry's JSON.

/// Whether this can be the name of an entry, a cluster or a module.
pub(crate) fn is_name(text: &str) -> bool {
    let ordinary = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.len() <= 100 && text.bytes().all(ordinary) && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}
