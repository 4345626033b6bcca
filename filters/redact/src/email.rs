//! Mail addresses: what stands around an `@`. Not all that RFC 5321 allows, but what people have.

use tailmill_filters_shared::Span;

/// Longest part before the `@` (RFC 5321, 4.5.3.1.1): also keeps a line of a million letters from being walked again and
/// again.
const LOCAL_BYTES_MAX: usize = 64;
/// Longest domain (RFC 1035, 2.3.4).
const DOMAIN_BYTES_MAX: usize = 253;

/// The address around the `@` that is at `at`.
pub(crate) fn around(line: &[u8], at: usize) -> Option<Span> {
    if line[at] != b'@' {
        return None;
    }
    let start = local_start(line, at).filter(|start| !is_in_url(line, *start))?;
    Some(start..domain_end(line, at + 1)?)
}

/// Whether what begins at `start` is the user or the password of a URL: `scheme://user:password@host`.
fn is_in_url(line: &[u8], start: usize) -> bool {
    let is_user = |byte: &u8| byte.is_ascii_graphic() && !b"/@\"'<>?#".contains(byte);
    let before = &line[start.saturating_sub(LOCAL_BYTES_MAX)..start];
    let user = before.iter().rev().take_while(|byte| is_user(byte)).count();
    // The colon of `://` is in front of its slashes, so it is not among the user's letters.
    line[..start - user].ends_with(b"://")
}

/// Where the part before the `@` begins. It begins and ends with a letter, a digit or one of `_+-`.
fn local_start(line: &[u8], at: usize) -> Option<usize> {
    let is_local = |byte: &u8| byte.is_ascii_alphanumeric() || b"._%+-".contains(byte) || !byte.is_ascii();
    let before = &line[at.saturating_sub(LOCAL_BYTES_MAX)..at];
    let length = before.iter().rev().take_while(|byte| is_local(byte)).count();
    let local = &line[at - length..at];
    let dots = local.iter().take_while(|byte| **byte == b'.').count();
    (dots < length && local.last() != Some(&b'.')).then_some(at - length + dots)
}

/// Where the domain ends: labels of letters, digits and hyphens, at least two, the last one of letters.
fn domain_end(line: &[u8], start: usize) -> Option<usize> {
    let rest = &line[start..line.len().min(start + DOMAIN_BYTES_MAX)];
    let is_domain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-".contains(byte) || !byte.is_ascii();
    let length = rest.iter().take_while(|byte| is_domain(byte)).count();
    // A dot or hyphen at the end belongs to the sentence around it.
    let domain = &rest[..length];
    let length = length - domain.iter().rev().take_while(|byte| b".-".contains(byte)).count();
    let dot = domain[..length].iter().rposition(|byte| *byte == b'.')?;
    let last = &domain[dot + 1..length];
    let is_name = last.len() >= 2 && last.iter().all(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii());
    let is_name = is_name || last.starts_with(b"xn--");
    (dot > 0 && domain[0] != b'.' && is_name).then_some(start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, wanted: &[&str]) {
        let mut found = Vec::new();
        for at in (0..line.len()).filter(|at| line.as_bytes()[*at] == b'@') {
            found.extend(around(line.as_bytes(), at).map(|span| line[span].to_string()));
        }
        assert_eq!(found, wanted, "{line}");
    }

    #[test]
    fn addresses_are_found_and_nothing_around_them() {
        check("from a@b.de to <first.last+tag@sub.example.com>.", &["a@b.de", "first.last+tag@sub.example.com"]);
        check("mail me: x_y%z@a-b.co.uk, ok", &["x_y%z@a-b.co.uk"]);
        check("A.B@EXAMPLE.COM.", &["A.B@EXAMPLE.COM"]);
        check("user=a@b.org;x", &["a@b.org"]);
        check("jürgen@müller.example", &["jürgen@müller.example"]);
        check("a@xn--mller-kva.xn--p1ai", &["a@xn--mller-kva.xn--p1ai"]);
        check("..a@b.de", &["a@b.de"]);
        check("a@b.de@c.de", &["a@b.de", "b.de@c.de"]);
    }

    #[test]
    fn what_only_looks_like_one_stays() {
        for line in [
            "@",
            "a@",
            "@b.de",
            "a@b",
            "a@.de",
            "a@b.1",
            "a@10.0.0.1",
            "a.@b.de",
            "user @host.de",
            "a@b.c",
            "@@@",
            "http://bob@b.de/",
        ] {
            check(line, &[]);
        }
    }
}
